// One short line in the picture: what to do next; and what is wrong with this frame, if anything.
import { byId } from '/page/make.js';
import { called, data, flaggedFrames, promptsAt, recordAt, shows, state } from '/page/store.js';

export function drawHints() {
  byId('hint').textContent = data.speed === 0 ? nextStep() : '';
  const flagged = Object.values(recordAt(data.frame)?.subjects ?? {}).filter((s) => s.flagged);
  const line = byId('finding');
  line.textContent = flagged.length ? `Frame ${called(data.frame)}, ${flagged[0].state}: ${flagged.flatMap((s) => s.why).join('; ') || 'please look'}` : '';
  line.className = flagged.some((s) => s.state === 'lost') ? 'lost' : '';
}

function nextStep() {
  const { prompts, subjects } = state();
  const { running, version } = data.at;
  const here = promptsAt(data.frame);
  if (data.making.has(data.frame)) return 'Matting this frame…';
  if (running) return running.matted ? 'Tracking: frames that are done can be looked at' : 'Tracking…';
  if (!prompts.some(shows)) return 'Drag a box around the subject';
  const missing = subjects.find((s) => !prompts.some((p) => p.subject === s.id && shows(p)));
  if (missing) return `Drag a box around ${missing.name}`;
  if (version === null) {
    return here.length ? 'Click what is missing, Alt+click what is too much; then press Track' : 'Press Track, or point again on this frame';
  }
  if (!version.current) return data.at.corrects ? 'Press Correct to track again around this prompt' : 'Press Track again to use what you have changed';
  if (!version.whole) return 'Stopped before the end: correct a frame or track again';
  const flags = flaggedFrames().length;
  const at = recordAt(data.frame);
  if (at && Object.values(at.subjects).some((s) => s.flagged)) return 'Wrong here? Click the subject, Alt+click what is too much, or drag a new box';
  if (flags) return `${flags} ${flags === 1 ? 'frame wants' : 'frames want'} a look: press N`;
  return '';
}
