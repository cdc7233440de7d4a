// What the page does once it is there. Without scripts it stands as it is.
document.documentElement.classList.add("scripted");
document.body.append(panel);
for (const holder of document.querySelectorAll(".table")) enliven(holder);
const place = document.getElementById("explorer");
if (place) explorer(place);
const wanted = document.getElementById("budget");
if (wanted && DATA.budget) budget(wanted);

// print with everything open, and leave it as it was
let closed = [];
window.addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const one of closed) one.open = true;
});
window.addEventListener("afterprint", () => {
  for (const one of closed) one.open = false;
});
// a link into a closed part opens it
const reveal = () => {
  const target = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target?.scrollIntoView();
};
window.addEventListener("hashchange", reveal);
reveal();
