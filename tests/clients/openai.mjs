// node openai.mjs BASE_URL KEY MODEL: asks everything once, prints what came as one JSON object.
import OpenAI, { AuthenticationError, NotFoundError } from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];
const ask = { model, messages, max_tokens: 8, temperature: 0 };
const told = {};

const whole = await client.chat.completions.create(ask).withResponse();
told.chat = { answer: whole.data, requestId: whole.request_id };

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const asked = { ...ask, stream: true };
told.stream = await collect(await client.chat.completions.create(asked));
told.streamWithUsage = await collect(
  await client.chat.completions.create({ ...asked, stream_options: { include_usage: true } }),
);
const helper = client.chat.completions.stream(ask);
told.helper = await helper.finalChatCompletion();

told.completion = await client.completions.create({ model, prompt: "Once upon a time", max_tokens: 8 });
const embedding = await client.embeddings.create({ model, input: "hello" });
told.embedding = { model: embedding.model, vector: embedding.data[0].embedding };
told.models = (await client.models.list()).data.map((one) => one.id);
told.retrieved = await client.models.retrieve(model);

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { status: error.status, code: error.code, type: error.type, requestId: error.requestID, error };
  }
  return null;
}

const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
const unknownKey = await failure(stranger.models.list());
const unknownModel = await failure(client.chat.completions.create({ model: "nobody", messages }));
told.failures = {
  key: { ...unknownKey, isRightClass: unknownKey.error instanceof AuthenticationError },
  model: { ...unknownModel, isRightClass: unknownModel.error instanceof NotFoundError },
};
console.log(JSON.stringify(told));
