// Names of clusters, saved while they are written: one request at a time for each, the newest name last.
import { ask, showBanner, showSaved } from "/static/common.js";

const RETRY = 1500;  // ms
const waiting = new Map();  // input -> name to save
const busy = new Set();

async function save(input) {
  if (busy.has(input)) return;
  busy.add(input);
  while (waiting.has(input)) {
    const name = waiting.get(input);
    try {
      await ask("PUT", "/api/cluster", { cluster: Number(input.dataset.cluster), name });
      if (waiting.get(input) === name) waiting.delete(input);
      if (!waiting.size) { showSaved("saved"); showBanner(""); }
    } catch (error) {
      showSaved("failed");
      showBanner(`NOT SAVED: ${error.message}. Keep this page open: the name is sent again until it is saved.`);
      await new Promise(resume => setTimeout(resume, RETRY));
    }
  }
  busy.delete(input);
}

document.addEventListener("input", event => {
  if (!event.target.dataset.cluster) return;
  waiting.set(event.target, event.target.value);
  showSaved("saving");
  save(event.target);
});
addEventListener("beforeunload", event => { if (waiting.size) event.preventDefault(); });
