// Requests to the server, as any client makes them.

/** What the server said went wrong. */
export class Refused extends Error {}

/** Send JSON and return the JSON that comes back. */
export async function ask(path, body, { method = "POST", signal } = {}) {
  const answer = await send(path, body, method, signal);
  return answer.status === 204 ? null : answer.json();
}

/** Ask for text and hand over each piece as it comes. */
export async function stream(body, onPiece, signal) {
  const answer = await send("/v1/completions", { ...body, stream: true }, "POST", signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const events = rest.split(/\r?\n\r?\n/);
    rest = done ? "" : events.pop();
    for (const event of events) read(event, onPiece);
    if (done) return;
  }
}

function read(event, onPiece) {
  const lines = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  const data = lines.map((line) => line.slice(5).trimStart()).join("\n");
  if (!data || data === "[DONE]") return;
  const content = JSON.parse(data);
  if (content.error || content.message) throw new Refused(content.message ?? content.error.message);
  for (const choice of content.choices ?? []) if (choice.text) onPiece(choice.text);
}

async function send(path, body, method, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server could not be reached; is it still running?");
  }
  if (answer.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    throw new Refused("You were logged out; log in again.");
  }
  if (!answer.ok) throw new Refused(await reason(answer));
  return answer;
}

async function reason(answer) {
  const text = await answer.text();
  let said = "";
  try {
    said = JSON.parse(text).message;
  } catch {
    // No JSON: a proxy answered.
  }
  return said || `The server answered ${answer.status} and did not say why.`;
}
