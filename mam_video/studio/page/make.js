// Makes elements. Names and messages are only ever set as text.

export const byId = (id) => document.getElementById(id);

export function make(tag, more = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(more)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== 'list') element[key] = value;
    else element.setAttribute(key, value);
  }
  for (const child of children) if (child !== null) element.append(child);
  return element;
}

// Replace a list's items, but not while one of them is being typed in.
export function fill(list, items, empty = '') {
  if (list.contains(document.activeElement) && /^(INPUT|SELECT)$/.test(document.activeElement.tagName)
    && list.children.length === items.length) return;
  list.replaceChildren(...(items.length || !empty ? items : [make('li', { className: 'empty', textContent: empty })]));
}

export function bytesText(bytes) {
  if (bytes === null || bytes === undefined) return 'size not known';
  const units = ['bytes', 'KB', 'MB', 'GB', 'TB'];
  let k = 0;
  let value = bytes;
  while (value >= 1000 && k < units.length - 1) { value /= 1000; k += 1; }
  return `about ${value < 10 && k ? value.toFixed(1) : Math.round(value)} ${units[k]}`;
}

export function timeText(seconds) {
  if (seconds === null || seconds === undefined) return '';
  return seconds < 60 ? `${Math.ceil(seconds)} s` : `${Math.floor(seconds / 60)} min ${Math.ceil(seconds % 60)} s`;
}
