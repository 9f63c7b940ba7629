// Reads {"body", "headers", "secret"} and has the official client verify the event that this is; prints its type.
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const { body, headers, secret } = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI({ apiKey: "any" });
const event = await client.webhooks.unwrap(body, headers, secret);
console.log(event.type);
