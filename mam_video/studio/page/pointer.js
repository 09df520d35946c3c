// The pointer in the picture: drag a box, click points, move and zoom, pull the compare line, read pixels.
import { table } from '/page/net.js';
import { byId } from '/page/make.js';
import { changed, chosen, data, promptsAt, recordAt } from '/page/store.js';
import * as view from '/page/view.js';

const NEAR = 9;          // CSS pixels
const canvas = byId('picture');

export function attachPointer({ act, note }) {
  let drag = null;       // { kind, ... } from pointerdown to pointerup

  canvas.addEventListener('contextmenu', (event) => event.preventDefault());
  canvas.addEventListener('pointerdown', (event) => {
    if (!data.at) return;
    canvas.focus({ focusVisible: false });
    canvas.setPointerCapture(event.pointerId);
    const at = [event.offsetX, event.offsetY];
    if (event.button === 1 || event.shiftKey) drag = { kind: 'move', at };
    else if (data.compare !== '' && !data.other && Math.abs(at[0] - view.wipeX()) < NEAR) drag = { kind: 'wipe' };
    else if (event.button === 2) drag = { kind: 'point', at, on: false };
    else if (event.button === 0) drag = { kind: 'point', at, on: !event.altKey, corner: cornerAt(at) };
    canvas.classList.toggle('moving', drag?.kind === 'move');
    if (event.button === 1) event.preventDefault();
  });

  canvas.addEventListener('pointermove', (event) => {
    const at = [event.offsetX, event.offsetY];
    if (drag?.kind === 'move') {
      view.place.x += at[0] - drag.at[0]; view.place.y += at[1] - drag.at[1];
      view.place.fitted = false; drag.at = at; changed();
    } else if (drag?.kind === 'wipe') {
      data.wipe = Math.min(Math.max((at[0] - view.place.x) / (data.clip.width * view.place.scale), 0), 1); changed();
    } else if (drag?.kind === 'point' && drag.on && Math.hypot(at[0] - drag.at[0], at[1] - drag.at[1]) > 4) drag.kind = 'box';
    if (drag?.kind === 'box') { view.showDrag(boxOf(drag, at)); changed(); }
    readPixel(at);
  });

  canvas.addEventListener('pointerup', (event) => {
    const at = [event.offsetX, event.offsetY];
    const done = drag;
    drag = null;
    view.showDrag(null);
    canvas.classList.remove('moving');
    if (done?.kind === 'box') act('set_box', { subject: chosen().id, frame: data.frame, box: boxOf(done, at) });
    else if (done?.kind === 'point') pointAt(done.at, done.on);
    changed();
  });
  canvas.addEventListener('pointercancel', () => { drag = null; view.showDrag(null); changed(); });

  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    view.zoomTo(view.place.scale * Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
    changed();
  }, { passive: false });

  function pointAt(at, on) {
    const [x, y] = view.toImage(...at);
    if (x < 0 || y < 0 || x >= data.clip.width || y >= data.clip.height) return;
    const mine = promptsAt(data.frame).find((p) => p.subject === chosen().id);
    const old = mine?.points.findIndex((p) => Math.hypot(...minus(view.toScreen(p[0], p[1]), at)) < NEAR) ?? -1;
    const where = { subject: chosen().id, frame: data.frame };
    if (old >= 0) { act('remove_point', { ...where, point: old }); return; }
    const found = recordAt(data.frame)?.subjects[chosen().id];
    const box = found && found.state !== 'lost' && found.state !== 'cut' ? found.box : null;
    if (!on && !mine && !box) { note('Show the subject first: drag a box around it, or click it'); return; }
    act('add_point', { ...where, x, y, on, box });
  }
}

const minus = (a, b) => [a[0] - b[0], a[1] - b[1]];

// The corner of this frame's box that stays when the one under the pointer is dragged; null: none is near.
function cornerAt(at) {
  const box = promptsAt(data.frame).find((p) => p.subject === chosen().id)?.box;
  if (!box) return null;
  for (const [i, j] of [[0, 1], [2, 1], [0, 3], [2, 3]]) {
    if (Math.hypot(...minus(view.toScreen(box[i], box[j]), at)) < NEAR) return [box[2 - i], box[4 - j]];
  }
  return null;
}

function boxOf(drag, at) {
  const [x0, y0] = drag.corner ?? view.toImage(...drag.at);
  const [x1, y1] = view.toImage(...at);
  const inside = (v, most) => Math.min(Math.max(v, 0), most);
  const xs = [inside(x0, data.clip.width), inside(x1, data.clip.width)].sort((a, b) => a - b);
  const ys = [inside(y0, data.clip.height), inside(y1, data.clip.height)].sort((a, b) => a - b);
  return [xs[0], ys[0], xs[1], ys[1]];
}

// Read the pixel under the pointer again: its matte may have changed.
export function readAgain() { if (lastAt) readPixel(lastAt); }

// The values of the pixel under the pointer, as the plate has them; one question at a time.
let asking = false;
let last = null;
let lastAt = null;
async function readPixel(at) {
  last = lastAt = at;
  if (asking || !data.at || data.speed !== 0) return;
  asking = true;
  while (last) {
    const [x, y] = view.toImage(...last).map(Math.floor);
    last = null;
    if (x < 0 || y < 0 || x >= data.clip.width || y >= data.clip.height) { byId('pixel').textContent = ''; continue; }
    try {
      const found = await table(`/api/${data.clip.shot}/pixel/${data.frame}?x=${x}&y=${y}`);
      const most = { uint8: 255, uint16: 65535 }[found.type] ?? 1;
      const values = found.rgb.map((v) => (v / most).toFixed(3)).join(' ');
      byId('pixel').textContent = `x ${x} y ${y}   RGB ${values}${found.alpha === null ? '' : `   A ${found.alpha.toFixed(3)}`}`;
    } catch { byId('pixel').textContent = ''; }
    await new Promise((done) => { setTimeout(done, 30); });
  }
  asking = false;
}
