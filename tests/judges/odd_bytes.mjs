// node odd_bytes.mjs BASE_URL (stream|whole):MODEL…: asks each model with OpenAI's client, a stream
// raw and by its helper; prints {model: {raw: outcome, helper: outcome} or {whole: outcome}} as JSON.
import { createRequire } from "node:module";

const OpenAI = createRequire(new URL("../clients/package.json", import.meta.url))("openai").default;
const [baseURL, ...models] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "k", maxRetries: 0, timeout: 20_000 });

async function raw(ask) {
  const text = [];
  const calls = [];
  let finish = null;
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
    for (const choice of chunk.choices) {
      text.push(choice.delta.content ?? "");
      for (const call of choice.delta.tool_calls ?? []) {
        calls[call.index] ??= { name: call.function.name, arguments: "" };
        calls[call.index].arguments += call.function.arguments ?? "";
      }
      finish = choice.finish_reason ?? finish;
    }
  }
  return { text: text.join(""), calls, finish };
}

async function helper(ask) {
  const { choices } = await client.chat.completions.stream(ask).finalChatCompletion();
  const { message, finish_reason: finish } = choices[0];
  const calls = (message.tool_calls ?? []).map((call) => call.function);
  return {
    text: message.content ?? "",
    calls: calls.map((call) => ({ name: call.name, arguments: call.arguments })),
    finish,
  };
}

async function whole(ask) {
  const { choices } = await client.chat.completions.create(ask);
  return { text: choices[0].message.content, calls: [] };
}

async function outcome(way, model) {
  try {
    return await way({ model, messages: [{ role: "user", content: "hi" }] });
  } catch (error) {
    const isOurs = error instanceof OpenAI.OpenAIError;
    return { error: error.constructor.name, message: String(error.message), isOurs };
  }
}

const ways = { stream: { raw, helper }, whole: { whole } };
const told = {};
for (const each of models) {
  const [kind, model] = each.split(":");
  told[model] = {};
  for (const [name, way] of Object.entries(ways[kind])) told[model][name] = await outcome(way, model);
}
console.log(JSON.stringify(told));
