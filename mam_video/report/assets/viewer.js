// The viewer: one picture, large, with the views, the reasons and a way to the next picture.

const viewer = byId("viewer"), large = byId("large"), stage = byId("stage");
const pictures = [...document.querySelectorAll(".picture")];
let shown = 0, whose = 0; // places of the item and of the subject in the viewer

// A cut-out is the plate, masked by the matte's alpha.
function mask(layers) {
  layers.querySelector(".plate").style.maskImage = `url("${layers.querySelector(".matte").src}")`;
}

function setView(group, layers, view) {
  for (const each of layers) each.className = `layers ${view}`;
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  }
}

for (const group of document.querySelectorAll(".views")) {
  const own = viewer.contains(group) ? [large] : [...document.querySelectorAll(".strip .layers")];
  for (const button of group.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => setView(group, own, button.dataset.view));
  }
}

function show(place) {
  shown = (place + pictures.length) % pictures.length;
  const picture = pictures[shown], item = data.items[picture.dataset.item];
  whose = item.subject ?? whose;
  for (const name of [".plate", ".matte"]) large.querySelector(name).src = picture.querySelector(name).src;
  mask(large);
  large.querySelector(".plate").alt = picture.getAttribute("aria-label").replace(/: enlarge$/, "");
  const names = data.rerun.subjects, named = item.subject !== null && names.length > 1;
  byId("viewer-title").textContent = `${item.label} · ${item.state}${named ? `, ${names[item.subject].name}` : ""}`;
  byId("why").textContent = item.why;
  showFound(item);
  showEditor();
}

function showFound(item) {
  const found = byId("found");
  found.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  found.replaceChildren();
  item.boxes.forEach((box, subject) => {
    const meant = item.subject === null || item.subject === subject;
    if (box && meant) found.append(rectangle(`c${subject % data.colours}`, box));
  });
}

function open(picture) {
  show(pictures.indexOf(picture));
  viewer.showModal();
  byId("close").focus();
}

for (const picture of pictures) {
  mask(picture);
  picture.addEventListener("click", () => open(picture));
}
forAll(".card .set", (button) => {
  button.addEventListener("click", () => open(button.closest(".card").querySelector(".picture")));
});
byId("previous").addEventListener("click", () => show(shown - 1));
byId("next").addEventListener("click", () => show(shown + 1));
byId("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener("close", () => pictures[shown].focus());
viewer.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || event.defaultPrevented || event.target.matches("input, select")) return;
  show(shown + step);
  event.preventDefault();
});
stage.style.setProperty("--ratio", WIDTH / HEIGHT);
