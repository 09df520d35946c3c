// The keyboard. Nothing here that a button or the pointer cannot do.
import { byId } from '/page/make.js';
import { changed, chosen, count, data } from '/page/store.js';
import * as view from '/page/view.js';

const VIEWS = { 1: 'plate', 2: 'outline', 3: 'alpha', 4: 'over' };

export function attachKeys({ act, go, play, jumpFlag, setSpan, setBackdrop }) {
  const faster = (sign) => play(Math.sign(data.speed) === sign ? sign * Math.min(Math.abs(data.speed) * 2, 8) : sign);
  const done = {
    ' ': () => play(data.speed === 0 ? 1 : 0), j: () => faster(-1), k: () => play(0), l: () => faster(1),
    Home: () => go(0), End: () => go(count() - 1), '[': () => setSpan('in'), ']': () => setSpan('out'),
    n: () => jumpFlag(1), N: () => jumpFlag(-1), f: () => { view.fit(); changed(); },
    z: () => { view.zoomTo(1 / (window.devicePixelRatio || 1)); changed(); },
    o: () => { data.onion = !data.onion; changed(); },
    a: () => { data.other = data.compare !== '' && !data.other; changed(); },
    w: () => { data.compare = data.compare === '' ? firstOther() : ''; data.other = false; byId('compare').value = data.compare; changed(); },
    b: () => { const s = byId('backdrop'); s.selectedIndex = (s.selectedIndex + 1) % s.options.length; setBackdrop(); },
    t: () => { if (!byId('track').disabled && !data.at.running) act('track'); },
    Delete: () => act('clear_prompt', { subject: chosen().id, frame: data.frame }),
    '?': () => byId('keys').showModal(),
  };

  document.addEventListener('keydown', (event) => {
    if (!data.at || byId('keys').open) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && !/^(checkbox|range|color)$/.test(event.target.type);
    const mod = event.ctrlKey || event.metaKey;
    if (mod && event.key.toLowerCase() === 'z' && !typing) { event.preventDefault(); act(event.shiftKey ? 'redo' : 'undo'); return; }
    if (mod && event.key.toLowerCase() === 'y' && !typing) { event.preventDefault(); act('redo'); return; }
    if (mod || event.altKey || typing) return;
    const onControl = /^(BUTTON|A|SUMMARY)$/.test(event.target.tagName) || event.target.type === 'checkbox';
    if (onControl && (event.key === ' ' || event.key === 'Enter')) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && event.target.type !== 'range') { event.preventDefault(); if (data.speed) play(0); go(data.frame + step * (event.shiftKey ? 10 : 1)); return; }
    if (VIEWS[event.key]) { data.view = VIEWS[event.key]; changed(); return; }
    const key = event.key.length === 1 && event.key !== 'N' ? event.key.toLowerCase() : event.key;
    if (done[key]) { event.preventDefault(); done[key](); }
  });
}

function firstOther() { return data.at.versions.filter((n) => n !== data.at.version?.number).map(String).at(-1) ?? 'plate'; }
