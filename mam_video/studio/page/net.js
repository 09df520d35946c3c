// Talks to the server: acts, tables and the socket of events. Nothing is asked of anywhere else.

export async function table(path) {
  const answer = await fetch(path, { cache: 'no-cache' });
  if (!answer.ok) throw new Error(await reasonOf(answer));
  return answer.json();
}

export async function send(path, body) {
  const answer = await fetch(path, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await reasonOf(answer));
  return answer.json();
}

// Send a file as it is.
export async function sendFile(path, file) {
  const answer = await fetch(path, { method: 'POST', headers: { 'Content-Type': file.type }, body: file });
  if (!answer.ok) throw new Error(await reasonOf(answer));
  return answer.json();
}

async function reasonOf(answer) {
  const text = await answer.text();
  try { return JSON.parse(text).error ?? text; } catch { return text || `the server answers ${answer.status}`; }
}

// Calls heard(entry) for every event, and joined(true or false) as the socket opens and closes; it opens again by itself.
export function events(heard, joined) {
  const open = () => {
    const socket = new WebSocket(`ws://${location.host}/events`);
    socket.onopen = () => joined(true);
    socket.onmessage = (message) => heard(JSON.parse(message.data));
    socket.onclose = () => { joined(false); setTimeout(open, 1000); };
  };
  open();
}
