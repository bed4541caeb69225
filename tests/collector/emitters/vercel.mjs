// The Vercel AI SDK with `experimental_telemetry`, made to do what scenarios.py does (see there).
// Run by benchmarks/record_emitters.py in a directory that holds node_modules; the canaries come
// as JSON in CANARIES, the stand-in upstream's address in UPSTREAM_URL.
import { context, trace, SpanKind } from '@opentelemetry/api';
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { createOpenAI } from '@ai-sdk/openai';
import { embed, generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';

const canaries = JSON.parse(process.env.CANARIES);
const exporter = {
  export(spans, done) {
    fetch(`${process.env.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-protobuf' },
      body: ProtobufTraceSerializer.serializeRequest(spans),
    }).then(() => done({ code: 0 }), (error) => done({ code: 1, error }));
  },
  shutdown: async () => {},
};
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ 'service.name': process.env.OTEL_SERVICE_NAME }),
  spanProcessors: [new BatchSpanProcessor(exporter)],
});
provider.register();

const openai = createOpenAI({
  apiKey: 'made-up',
  fetch: (url, init) =>
    fetch(String(url).replace(/^https?:\/\/api\.openai\.com/, process.env.UPSTREAM_URL), init),
});
const model = openai.chat(canaries.CHAT);
const telemetry = (functionId) => ({
  isEnabled: true,
  functionId,
  metadata: { userId: canaries.USER, sessionId: canaries.SESSION, tags: ['beta'] },
});
const request = (work) =>
  trace.getTracer('shop.web').startActiveSpan('POST /ask', { kind: SpanKind.SERVER }, async (span) => {
    try {
      await work();
    } catch {
      // the emitter's own spans carry the failure
    } finally {
      span.end();
    }
  });
const lookupOrder = tool({
  description: 'The state of an order.',
  inputSchema: z.object({ order_id: z.string().describe(`${canaries.PHRASE} tool parameter`) }),
  execute: async () => canaries.TOOL_RESULT,
});
const reserve = tool({
  description: 'Sets an order aside.',
  inputSchema: z.object({ order_id: z.string() }),
  execute: async () => {
    throw new Error(canaries.LEAK);
  },
});
const common = { model, system: canaries.SYSTEM, maxRetries: 0 };

await request(() => generateText({
  ...common, prompt: canaries.QUESTION, temperature: 0.5, maxOutputTokens: 200,
  experimental_telemetry: telemetry('answer'),
}));
await request(async () => {
  const result = streamText({
    ...common, prompt: `Speak slowly (${canaries.PHRASE} stream).`,
    experimental_telemetry: telemetry('slowly'),
  });
  for await (const _ of result.textStream);
});
await request(() => generateText({
  ...common, prompt: canaries.TOOL_QUESTION, tools: { lookup_order: lookupOrder },
  stopWhen: stepCountIs(3), experimental_telemetry: telemetry('clerk'),
}));
await request(() => generateText({
  ...common, prompt: canaries.TOOL_QUESTION, tools: { reserve },
  stopWhen: stepCountIs(1), experimental_telemetry: telemetry('broken'),
}));
await request(() => embed({
  model: openai.textEmbeddingModel(canaries.EMBEDDER), value: canaries.EMBEDDED, maxRetries: 0,
  experimental_telemetry: telemetry('embed'),
}));
await request(() => generateObject({
  ...common, prompt: `As JSON (${canaries.PHRASE} object).`, schema: z.object({ a: z.string() }),
  experimental_telemetry: telemetry('object'),
}));
await request(() => generateText({
  ...common, prompt: canaries.FAILING, experimental_telemetry: telemetry('failing'),
}));
await provider.forceFlush();
await provider.shutdown();
