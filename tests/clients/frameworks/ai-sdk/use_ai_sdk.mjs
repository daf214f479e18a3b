// The AI SDK: node use_ai_sdk.mjs URL KEY prints, for each way, what a chat, a stream and tools gave.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [url, apiKey, question, aboutTools] = process.argv.slice(2);
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey });
const google = createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey });
const tools = {
  get_weather: tool({
    description: "The weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => ({ Paris: "sun", Oslo: "rain" })[city],
  }),
};

async function use(model) {
  const stream = streamText({ model, prompt: question, maxRetries: 0 });
  let streamed = "";
  for await (const part of stream.textStream) streamed += part;
  const stopWhen = stepCountIs(3);
  // Else OpenAI is thought to keep the answers, and what was said is only referred to.
  const providerOptions = { openai: { store: false } };
  const asked = { model, prompt: aboutTools, tools, stopWhen, maxRetries: 0, providerOptions };
  return {
    chat: (await generateText({ model, prompt: question, maxRetries: 0 })).text,
    stream: streamed,
    tools: (await generateText(asked)).text,
  };
}

const told = {
  "chat, messages behind": await use(openai.chat("messages")),
  "responses, chat behind": await use(openai.responses("chat")),
  "responses, messages behind": await use(openai.responses("messages")),
  "messages, chat behind": await use(anthropic("chat")),
  "messages, gemini behind": await use(anthropic("gemini")),
  "gemini, chat behind": await use(google("chat")),
};
console.log(JSON.stringify(told));
