// What all pages share: requests with the token, and text put into elements as text.
export const find = id => document.getElementById(id);
const token = document.querySelector("meta[name=token]").content;

// What the server refused, or that it did not answer at all (status 0). `body` is the JSON of its answer.
export class Refusal extends Error {
  constructor(status, body) {
    super(body?.error ?? "the server does not answer (does its command still run?)");
    this.status = status;
    this.body = body ?? {};
  }
}

export async function ask(method, address, content, { patience = 15000, keepalive = false } = {}) {
  let answer;
  try {
    answer = await fetch(address, {
      method, keepalive, signal: AbortSignal.timeout(patience), redirect: "error",
      headers: { Authorization: `Bearer ${token}`, ...(content === undefined ? {} : { "Content-Type": "application/json" }) },
      body: content === undefined ? undefined : JSON.stringify(content),
    });
  } catch { throw new Refusal(0); }
  let body;
  try { body = await answer.json(); } catch { body = undefined; }
  if (!answer.ok) throw new Refusal(answer.status, body ?? { error: `the server answered with ${answer.status}` });
  return body;
}

// An element with attributes and children; strings become text, never markup.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === undefined || value === null) continue;
    made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

// Random and long enough that no two are the same; crypto.randomUUID is missing where the page comes over plain HTTP.
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

export const imageAddress = (id, side) => `/image/${encodeURIComponent(id)}${side ? `?side=${side}` : ""}`;

const SMALL = 256;  // pixels: an image up to this size is enlarged without interpolation
export const isSmall = image => Math.max(image.naturalWidth, image.naturalHeight) <= SMALL;

const SAVED = { idle: "ready", saving: "saving …", saved: "saved", failed: "not saved" };

// Whether what was done last is on the server's disk; every page with a script has this mark in its bar.
export function showSaved(state) {
  find("saved").dataset.state = state;
  find("saved").textContent = SAVED[state];
}

export function showBanner(text) {
  const banner = find("banner");
  banner.hidden = !text;
  if (banner.textContent !== text) banner.textContent = text;
}
