// The study: one image, one question, two answers. The next question is shown when the answer is saved, not before.
import { ask, find, imageAddress, isSmall, showBanner, showSaved } from "/static/common.js";

const RETRY = 1500;  // ms
let items = [], busy = false, since = 0, counted = 0;
const answeredHere = new Set();  // tokens

function load(item) {
  const image = new Image();
  image.src = imageAddress(item.image_id);
  item.ready = image.decode().then(() => image, () => null);
  return item;
}

async function fetchItems() {
  const { items: found, answered, questions, takes, fewer } = await ask("GET", "/api/items");
  const known = new Map(items.map(item => [item.token, item]));
  // An answer may have been saved after the server looked for what is left.
  items = found.filter(item => !answeredHere.has(item.token)).map(item => known.get(item.token) ?? load(item));
  find("count").textContent = (questions - answered).toLocaleString("en");
  find("takes").textContent = `, which takes about ${takes}`;
  find("fewer").hidden = !fewer;
  find("limit").textContent = String(fewer);
  showProgress(Math.max(answered, counted), questions);
}

function showProgress(answered, questions) {
  counted = answered;
  find("progress").textContent = `${answered} of ${questions}`;
}

// The image of a question; null for one that cannot be shown, which is another thing than one that did not arrive:
// answers are never rewritten, so nobody is made to say "I cannot tell" because of the network.
async function arrived(item) {
  for (let waited = false; ; waited = true) {
    const image = await item.ready;
    const there = image || await fetch(imageAddress(item.image_id)).then(found => found.status < 500, () => false);
    if (there && waited) showBanner("");
    if (image) return image;
    if (there) return load(item).ready;
    showBanner("The image did not arrive: it is asked for again until it does.");
    await new Promise(resume => setTimeout(resume, RETRY));
    load(item);
  }
}

async function show() {
  const item = items[0];
  find("end").hidden = Boolean(item);
  if (!item) { find("question").hidden = true; delete find("main").dataset.shown; return; }
  const image = await arrived(item);
  find("question").hidden = false;  // not before: nobody answers what is not seen
  find("image").hidden = !image;
  find("unread").hidden = Boolean(image);
  if (image) {
    find("image").src = image.src;
    find("image").className = isSmall(image) ? "pixels" : "";
  } else find("unread").textContent = "This image cannot be shown. Choose “I cannot tell”.";
  find("asked").textContent = item.question;
  document.querySelectorAll(".choices button").forEach((button, place) => { button.querySelector("span").textContent = item.options[place]; });
  find("main").dataset.shown = item.token;
  since = performance.now();
}

async function answer(option) {
  const item = items[0];
  if (busy || !item || find("question").hidden) return;
  busy = true;
  const seconds = Math.round(performance.now() - since) / 1000;
  showSaved("saving");
  for (;;) {
    try {
      const { answered, questions } = await ask("POST", "/api/answer", { token: item.token, option, seconds });
      showProgress(answered, questions);
      break;
    } catch (error) {
      showSaved("failed");
      showBanner(`NOT SAVED: ${error.message}.${error.status === 422 ? "" : " Your answer is sent again until it is saved."}`);
      if (error.status === 422) {  // such as a question that was answered in another window: go on with what is left
        await fetchItems().catch(() => {});
        await show();
        busy = false;
        return;
      }
      await new Promise(resume => setTimeout(resume, RETRY));
    }
  }
  showBanner("");
  showSaved("saved");
  answeredHere.add(item.token);
  items = items.filter(one => one.token !== item.token);
  document.activeElement?.blur();
  const more = fetchItems().catch(error => showBanner(`${error.message}: reload the page to go on.`));
  if (!items.length) await more;
  await show();
  busy = false;
}

document.addEventListener("click", event => {
  const button = event.target.closest("button[data-option]");
  if (button) answer(button.dataset.option === "" ? null : Number(button.dataset.option));
});
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const options = { 1: 0, 2: 1, 0: null };
  if (event.key in options && !find("question").hidden) { event.preventDefault(); answer(options[event.key]); }
});
find("start").addEventListener("click", async () => {
  find("intro").hidden = true;
  await show();
  find("main").focus();
});
fetchItems().then(() => { if (!items.length) { find("intro").hidden = true; show(); } find("main").dataset.loaded = "yes"; },
  error => showBanner(`${error.message}: reload the page.`));
