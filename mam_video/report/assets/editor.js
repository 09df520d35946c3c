// The editor: a box over the large picture. It is drawn, moved and resized in whole pixels of the plate.

const box = byId("box"), numbers = ["x0", "y0", "x1", "y1"].map(byId);
// A handle moves the edges that it names: -1 the first one, 1 the second one, 0 neither.
const HANDLES = [[-1, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0]];
const current = () => data.items[pictures[shown].dataset.item];
const currentBox = () => correctionOf(current(), whose)?.box;

function showEditor() {
  byId("editor").hidden = box.hidden = !correctable;
  if (!correctable) return;
  const item = current(), found = correctionOf(item, whose), foundBox = item.boxes[whose];
  byId("whose").closest("label").hidden = data.rerun.subjects.length < 2;
  byId("whose").disabled = item.subject !== null;
  byId("whose").value = String(whose);
  byId("tick").disabled = !found;
  byId("tick").checked = Boolean(found?.ticked);
  byId("take").disabled = !foundBox;
  byId("hint").textContent = !found ? "Draw a box around the subject on the picture."
    : found.origin !== null ? `The box is that of frame ${found.origin}. Drag it, or draw a new one.`
      : "Drag the box or its handles, or draw a new one. With the box in focus the arrow keys move it.";
  placeBox(found?.box);
}

function placeBox(at) {
  box.hidden = !at;
  numbers.forEach((input, k) => {
    input.max = k % 2 ? HEIGHT : WIDTH;
    if (input !== document.activeElement || !at || Number(input.value) !== at[k]) input.value = at ? at[k] : "";
  });
  if (!at) return;
  const [x0, y0, x1, y1] = at;
  Object.assign(box.style, {
    left: `${100 * x0 / WIDTH}%`, top: `${100 * y0 / HEIGHT}%`,
    width: `${100 * (x1 - x0) / WIDTH}%`, height: `${100 * (y1 - y0) / HEIGHT}%`,
  });
  box.setAttribute("aria-label",
    `box ${at.join(", ")}; arrow keys move it, with Shift by 10 pixels, with Control they move its right and bottom edge`);
}

const place = (event) => {
  const area = stage.getBoundingClientRect();
  return [
    between((event.clientX - area.left) / area.width * WIDTH, 0, WIDTH),
    between((event.clientY - area.top) / area.height * HEIGHT, 0, HEIGHT),
  ];
};

function moved([x0, y0, x1, y1], dx, dy) {
  const x = between(Math.round(dx), -x0, WIDTH - x1), y = between(Math.round(dy), -y0, HEIGHT - y1);
  return [x0 + x, y0 + y, x1 + x, y1 + y];
}

function resized([x0, y0, x1, y1], [h, v], dx, dy) {
  return [
    h < 0 ? between(x0 + dx, 0, x1 - LEAST) : x0, v < 0 ? between(y0 + dy, 0, y1 - LEAST) : y0,
    h > 0 ? between(x1 + dx, x0 + LEAST, WIDTH) : x1, v > 0 ? between(y1 + dy, y0 + LEAST, HEIGHT) : y1,
  ];
}

// What a drag makes of the box, from where it began: a new box, one with moved edges, or a moved one.
function dragOf(target, start, before) {
  if (target.classList.contains("handle")) {
    const edges = HANDLES[target.dataset.handle];
    return ([x, y]) => resized(before, edges, x - start[0], y - start[1]);
  }
  if (target === box) return ([x, y]) => moved(before, x - start[0], y - start[1]);
  return ([x, y]) => [...start, x, y];
}

stage.addEventListener("pointerdown", (event) => {
  if (!correctable || event.button !== 0) return;
  const item = current(), subject = whose, start = place(event), began = [event.clientX, event.clientY];
  const drag = dragOf(event.target, start, currentBox());
  let dragging = false;
  const move = (next) => {
    dragging = dragging || Math.hypot(next.clientX - began[0], next.clientY - began[1]) > 3;
    if (dragging) setBox(item, subject, drag(place(next)));
  };
  const end = () => {
    stage.removeEventListener("pointermove", move);
    if (dragging) box.focus();
  };
  stage.setPointerCapture(event.pointerId);
  stage.addEventListener("pointermove", move);
  stage.addEventListener("lostpointercapture", end, { once: true });
  event.preventDefault();
});

box.addEventListener("keydown", (event) => {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const [dx, dy] = (arrows[event.key] ?? []).map((step) => step * (event.shiftKey ? 10 : 1));
  if (dx === undefined) return;
  setBox(current(), whose, event.ctrlKey ? resized(currentBox(), [1, 1], dx, dy) : moved(currentBox(), dx, dy));
  event.preventDefault();
});

for (const input of numbers) {
  input.addEventListener("change", () => {
    const values = numbers.map((each) => each.valueAsNumber);
    if (values.every(Number.isFinite)) setBox(current(), whose, values);
  });
}
byId("take").addEventListener("click", () => setBox(current(), whose, current().boxes[whose]));
byId("tick").addEventListener("change", (event) => tick(current(), whose, event.target.checked));
byId("whose").append(...data.rerun.subjects.map(({ name }, k) => new Option(name, String(k))));
byId("whose").addEventListener("change", (event) => { whose = Number(event.target.value); showEditor(); });
HANDLES.forEach(([h, v], k) => {
  const handle = document.createElement("span");
  handle.className = "handle";
  handle.dataset.handle = String(k);
  Object.assign(handle.style, { left: `${50 + 50 * h}%`, top: `${50 + 50 * v}%` });
  handle.style.cursor = h * v > 0 ? "nwse-resize" : h * v < 0 ? "nesw-resize" : h ? "ew-resize" : "ns-resize";
  box.append(handle);
});
document.addEventListener("corrections", () => { if (viewer.open) showEditor(); });
showCorrections();
