// node translated.mjs URL KEY QUESTION: asks by each SDK, whole and as a stream, an upstream of
// another dialect than the SDK's; prints [text, end, tokens in, tokens out] of each as one object.
import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";

const [url, apiKey, question] = process.argv.slice(2);
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey, maxRetries: 0 });
const google = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: url } });
const messages = [{ role: "user", content: question }];
const told = {};

function ofChat({ choices: [choice], usage }) {
  const { message, finish_reason } = choice;
  return [message.content, finish_reason, usage.prompt_tokens, usage.completion_tokens];
}
const chat = { model: "messages", messages, max_tokens: 3, temperature: 0 };
told["chat whole"] = ofChat(await openai.chat.completions.create(chat));
const chatStream = openai.chat.completions.stream({ ...chat, stream_options: { include_usage: true } });
told["chat stream"] = ofChat(await chatStream.finalChatCompletion());

function ofResponse({ output_text, incomplete_details, usage }) {
  const end = incomplete_details?.reason === "max_output_tokens" ? "length" : incomplete_details;
  return [output_text, end, usage.input_tokens, usage.output_tokens];
}
const response = { model: "chat", input: question, max_output_tokens: 3, temperature: 0 };
told["responses whole"] = ofResponse(await openai.responses.create(response));
told["responses stream"] = ofResponse(await openai.responses.stream(response).finalResponse());

function ofMessage({ content, stop_reason, usage }) {
  const read = usage.input_tokens + usage.cache_read_input_tokens;
  const end = stop_reason === "max_tokens" ? "length" : stop_reason;
  return [content.map((block) => block.text).join(""), end, read, usage.output_tokens];
}
const message = { model: "chat", messages, max_tokens: 3, temperature: 0 };
told["messages whole"] = ofMessage(await anthropic.messages.create(message));
told["messages stream"] = ofMessage(await anthropic.messages.stream(message).finalMessage());

function ofGoogle(parts) {
  const { candidates: [{ finishReason }], usageMetadata: usage } = parts.at(-1);
  const end = finishReason === "MAX_TOKENS" ? "length" : finishReason;
  const text = parts.map((part) => part.text ?? "").join("");
  return [text, end, usage.promptTokenCount, usage.candidatesTokenCount];
}
const config = { maxOutputTokens: 3, temperature: 0 };
const content = { model: "messages", contents: question, config };
told["google whole"] = ofGoogle([await google.models.generateContent(content)]);
const parts = [];
for await (const part of await google.models.generateContentStream(content)) parts.push(part);
told["google stream"] = ofGoogle(parts);
console.log(JSON.stringify(told));
