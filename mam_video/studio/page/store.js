// What the page knows: the shot, its state as the server told it, and what the artist looks at. Listeners are told of changes.

export const data = {
  desk: { shots: [], runs: [] },   // all shots and runs
  knobs: [], kinds: [],            // the tables of the library
  clip: null,                      // facts of the shot that do not change
  at: null,                        // the server's summary of it
  records: new Map(),              // frame -> { cut, subjects: { id: { state, flagged, box, score, why } } } of the version
  live: new Map(),                 // likewise, of the version that is being made
  stills: new Map(),               // frame -> how often its matte has been made, so that it is asked for again
  making: new Set(),               // frames whose matte is being made
  frame: 0, speed: 0, view: 'outline', backdrop: 'checker', onion: false,
  subject: 0,                      // id of the chosen one
  compare: '',                     // '', 'plate' or the number of a version
  wipe: 0.5, other: false,         // place of the line; whether only the other side is shown
  edges: null,                     // edge settings that are being tried: { choke: 2, ... }
  model: 'loading',
  joined: true,
};

const listeners = [];
let pending = false;

export function listen(listener) { listeners.push(listener); }

// Tell all listeners once, before the next picture is drawn.
export function changed() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; for (const each of listeners) each(); });
}

export const state = () => data.at.state;
export const count = () => Math.max(data.at.count, 1);
export const chosen = () => state().subjects.find((s) => s.id === data.subject) ?? state().subjects[0];
export const promptsAt = (frame) => state().prompts.filter((p) => p.frame === frame);
export const shows = (p) => p.box !== null || Boolean(p.mask) || p.points.some((point) => point[2]);

// What was found in a frame: of the version that is being made where it has come so far, else of the one that is shown.
export function recordAt(frame) { return data.live.get(frame) ?? data.records.get(frame); }

// Records have changed: what is derived from them is made again.
let flagged = null;
export function recordsChanged() { flagged = null; changed(); }

export function flaggedFrames() {
  if (flagged) return flagged;
  const found = [];
  for (let k = 0; k < count(); k++) {
    const record = recordAt(k);
    if (record && Object.values(record.subjects).some((s) => s.flagged)) found.push(k);
  }
  flagged = found;
  return found;
}

// The number of a frame as people call it: of a sequence its file's.
export function called(frame) { return data.clip.numbers ? data.clip.numbers[0] + frame : frame; }
