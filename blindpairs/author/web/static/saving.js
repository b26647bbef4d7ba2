// Every change goes to the server at once; it counts as saved when the server says that it is on the disk, not before.
// Until then it also lies in the browser's own storage, which survives a dead server, a closed tab and a crash.
import { ask, newId, Refusal, showBanner } from "/static/common.js";

const RETRY = 1500;  // ms
const { person, work } = document.body.dataset;
const prefix = `blindpairs:${work}:${person}:`;

export class Saving {
  constructor(show, conflict) {
    this.show = show;  // called with "idle", "saving", "saved" or "failed", and what the server found
    this.conflict = conflict;  // called where another window saved something that this one has not seen
    this.client = newId();
    this.number = 0;
    this.pair = null;
    this.kept = false;  // whether this page has saved anything
    this.wanted = this.sent = null;  // the form to save, as JSON, and the one on its way
    this.flight = this.refused = null;
    this.timer = 0;
    addEventListener("online", () => this.pump());
    addEventListener("pagehide", () => this.leave());
  }

  // Start with a pair. A form that never reached the server is returned, to be shown and saved now.
  open(pair) {
    this.pair = pair;  // pair_id, based_on: the revision that is shown, seen: the last save of another window
    this.wanted = null;
    clearTimeout(this.timer);
    showBanner("");
    const unsent = stored(pair.pair_id);
    this.show(this.kept ? "saved" : "idle");  // what came before is on the disk, or its pair would still be shown
    return unsent?.form ?? null;
  }

  changed(form) {
    this.wanted = JSON.stringify(form);
    try { localStorage.setItem(prefix + this.pair.pair_id, JSON.stringify({ ...this.pair, form })); } catch { /* full or forbidden: the server still has it */ }
    this.show("saving");
    this.pump();
  }

  get unsaved() { return this.wanted !== null; }

  pump() {
    if (this.flight || this.wanted === null) return this.flight;
    clearTimeout(this.timer);
    const pair = this.pair, form = this.wanted;
    const number = form === this.sent?.form && pair === this.sent.pair ? this.sent.number : ++this.number;  // the same again: a replay
    this.sent = { form, pair, number };
    this.flight = ask("PUT", "/api/edit", { ...pair, form: JSON.parse(form), client: this.client, number })
      .then(answer => this.arrived(pair, form, answer), error => this.failed(pair, error))
      .finally(() => { this.flight = null; if (this.wanted !== null && !this.timer) this.pump(); });
    return this.flight;
  }

  arrived(pair, form, answer) {
    this.timer = 0;
    if (pair !== this.pair) return;
    showBanner("");
    if (form !== this.wanted) { this.show("saving", answer.findings); return; }
    this.wanted = null;
    this.kept = true;
    forget(pair.pair_id);
    this.show("saved", answer.findings);
  }

  failed(pair, error) {
    if (pair !== this.pair) return;
    this.show("failed");
    if (error.status === 409) {  // only the person can say which counts
      this.timer = Infinity;
      this.refused = error;
      showBanner(`NOT SAVED: ${error.message}.`);
      this.conflict(error);
      return;
    }
    showBanner(`NOT SAVED: ${error.message}. Your text is kept in this browser, and is sent again until it is saved.`);
    this.timer = setTimeout(() => { this.timer = 0; this.pump(); }, RETRY);
  }

  // Wait for what is on its way, so that no older text arrives after a decision; the decision carries the newest itself.
  async pause() {
    clearTimeout(this.timer);
    this.timer = -1;
    await this.flight;
  }

  resume() { this.timer = 0; this.pump(); }

  // A decision about the pair was saved, with its text; or the person takes another text instead.
  drop() {
    this.kept = true;
    if (this.pair) forget(this.pair.pair_id);
    this.wanted = this.sent = null;
    this.timer = 0;
    showBanner("");
  }

  async settled() {
    while (this.wanted !== null && this.timer <= 0) await (this.pump() ?? Promise.resolve());
    if (this.wanted !== null && this.timer === Infinity) this.conflict(this.refused);  // the question was left open
    return this.wanted === null;
  }

  leave() {
    if (this.wanted !== null) ask("PUT", "/api/edit", { ...this.pair, form: JSON.parse(this.wanted), client: this.client, number: ++this.number }, { keepalive: true }).then(() => forget(this.pair.pair_id), () => {});
  }
}

function stored(pair_id) {
  try { return JSON.parse(localStorage.getItem(prefix + pair_id)); } catch { return null; }
}

function forget(pair_id) {
  try { localStorage.removeItem(prefix + pair_id); } catch { /* nothing was stored either */ }
}

// Send what an earlier page could not, of other pairs than the one that is shown.
export async function sendLeftovers(shown) {
  const client = newId();
  let number = 0, count = 0;
  for (const key of Object.keys(localStorage).filter(key => key.startsWith(prefix) && key !== prefix + shown)) {
    const pair_id = key.slice(prefix.length), kept = stored(pair_id);
    if (!kept) continue;
    try {
      await ask("PUT", "/api/edit", { ...kept, client, number: ++number });
      forget(pair_id);
      count += 1;
    } catch (error) {
      if (error instanceof Refusal && error.status === 0) return count;  // still dead: the next page tries again
    }
  }
  return count;
}
