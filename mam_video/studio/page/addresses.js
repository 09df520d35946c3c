// Which picture the server is asked for. An address changes when its picture may have changed.
import { data, promptsAt, state } from '/page/store.js';

export const plate = (frame, full) => `/api/${data.clip.shot}/frame/${frame}${full ? '?size=full' : ''}`;

// What lies behind a frame, of the backgrounds that the command line named.
export const background = (frame, number) => `/api/${data.clip.shot}/background/${number}/${data.desk.backgrounds[number].moves ? frame : 0}`;

// The number of the background that is chosen; null: it is a colour or the checker.
export const chosenBackground = () => (data.backdrop.startsWith('file:') ? Number(data.backdrop.slice(5)) : null);

// The matte of a frame. who: id of a subject, or null for all; version: '' for what the state shows.
export function matte(frame, who, version, full) {
  const given = new URLSearchParams();
  if (full) given.set('size', 'full');
  if (who !== null) given.set('subject', who);
  if (version !== '') given.set('version', version);
  else if (data.live.has(frame) && data.at.running) given.set('version', data.at.running.version);
  else if (data.edges && frame === data.frame && (who === null || who === data.subject)) {
    given.set('edges', Object.entries(data.edges).map(([name, value]) => `${name}=${value}`).join(','));
  }
  given.set('as', stamp(frame, version));
  return `/api/${data.clip.shot}/matte/${frame}?${given}`;
}

// A short text of all that the server makes the matte of, beside the files that never change.
function stamp(frame, version) {
  const { values, subjects } = state();
  const parts = [data.at.version?.number ?? 0, values.finish ?? 0, values.edges ?? 0, subjects.map((s) => s.id)];
  if (version === '') parts.push(promptsAt(frame), data.stills.get(frame) ?? 0, data.at.version?.current ?? 0);
  const text = JSON.stringify(parts);
  let sum = 2166136261;
  for (let k = 0; k < text.length; k++) sum = Math.imul(sum ^ text.charCodeAt(k), 16777619);
  return (sum >>> 0).toString(36);
}
