// Fetches pictures ahead of the artist, a few at a time, and keeps a bounded number of them decoded.

const MOST_BYTES = 160 << 20;   // of decoded pictures
const AT_ONCE = 4;

const kept = new Map();         // address -> { bitmap or null, bytes }; the one used last stands last
const underway = new Map();     // address -> AbortController
let held = 0;
let wanted = [];
let arrived = () => {};

export function onArrival(listener) { arrived = listener; }

// The picture of an address; undefined: not fetched yet; null: there is none.
export function picture(address) {
  const found = kept.get(address);
  if (!found) return undefined;
  kept.delete(address);
  kept.set(address, found);
  return found.bitmap;
}

export const has = (address) => kept.has(address);
export const bytesHeld = () => held;

// Fetch these, the most urgent first; what was wanted before and is not any more is dropped.
export function want(addresses) {
  wanted = addresses.filter((each) => !kept.has(each));
  const urgent = new Set(addresses);
  for (const [address, control] of underway) if (!urgent.has(address)) control.abort();
  next();
}

function next() {
  for (const address of wanted) {
    if (underway.size >= AT_ONCE) return;
    if (!underway.has(address) && !kept.has(address)) fetchOne(address);
  }
}

async function fetchOne(address) {
  const control = new AbortController();
  underway.set(address, control);
  try {
    const answer = await fetch(address, { cache: 'no-cache', signal: control.signal });
    if (answer.status === 200) keep(address, await createImageBitmap(await answer.blob()));
    else if (answer.status === 204) keep(address, null);
    else keep(address, null);
    arrived(address);
  } catch (error) {
    if (error.name !== 'AbortError') setTimeout(next, 500);
  } finally {
    underway.delete(address);
    if (!control.signal.aborted) next(); else setTimeout(next, 0);
  }
}

function keep(address, bitmap) {
  const bytes = bitmap ? bitmap.width * bitmap.height * 4 : 64;
  kept.set(address, { bitmap, bytes });
  held += bytes;
  for (const [old, each] of kept) {
    if (held <= MOST_BYTES || kept.size < 8) break;
    kept.delete(old);
    held -= each.bytes;
    each.bitmap?.close();
  }
}
