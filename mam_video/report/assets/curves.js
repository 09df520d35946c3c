// The curves: the values of the column that the pointer is at.

const columns = data.columns;
const plots = document.querySelector(".plots"), cursor = plots.querySelector(".cursor");
let column = -1;

function read(at) {
  if (!columns.length) return;
  column = between(at, 0, columns.length - 1);
  cursor.hidden = false;
  cursor.style.left = `${(column + 0.5) / columns.length * 100}%`;
  document.querySelector(".reading").textContent = columns[column].label;
  forAll(".value", (value) => { value.textContent = columns[column][value.dataset.curve]; });
}

plots.addEventListener("pointermove", (event) => {
  const area = plots.getBoundingClientRect();
  read(Math.floor((event.clientX - area.left) / area.width * columns.length));
});
plots.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) { read(column + step); event.preventDefault(); }
});
