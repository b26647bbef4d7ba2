// The two images: side by side with one zoom for both, in place of each other, their difference, and where they differ.
import { find, imageAddress, isSmall } from "/static/common.js";

const frames = { a: find("frame-a"), b: find("frame-b") };
const view = { mode: "sides", front: "a", map: false, scale: 1, x: 0, y: 0 };
let shown = null;  // { pair, pictures: { a: { image, map, reason }, b } }

function loaded(address) {
  const image = new Image();
  image.decoding = "async";
  image.src = address;
  return image.decode().then(() => image);
}

// Both images of a pair, decoded, so that showing them takes one frame; an image that cannot be read is its reason.
export async function preload(pair) {
  const pictures = {};
  await Promise.all(["a", "b"].map(async side => {
    const made = pictures[side] = { image: null, map: null, reason: "" };
    try { made.image = await loaded(imageAddress(pair[side].id)); } catch { made.reason = await reasonOf(pair[side].id); }
    if (pair.map) try { made.map = await loaded(`/map/${encodeURIComponent(pair.pair_id)}/${side}`); } catch { /* without it */ }
  }));
  return { pair, pictures };
}

async function reasonOf(id) {
  try {
    const answer = await fetch(imageAddress(id));
    return answer.ok ? "the browser cannot show this image" : (await answer.json()).error;
  } catch { return "the image did not arrive"; }
}

export function show(ready) {
  shown = ready;
  Object.assign(view, { mode: "sides", front: "a", scale: 1, x: 0, y: 0 });
  for (const side of ["a", "b"]) {
    const stage = frames[side].querySelector(".stage"), { image, reason } = ready.pictures[side];
    stage.replaceChildren();
    const unread = frames[side].querySelector(".unread");
    unread.hidden = Boolean(image);
    unread.textContent = image ? "" : `This image cannot be shown: ${reason}`;
  }
  draw();
}

// The layers of a frame: the image of `side`, another one over it in the difference view, and its map.
function fill(frame, side, over) {
  const stage = frame.querySelector(".stage"), { image, map } = shown.pictures[side];
  const layers = [];
  if (image) {
    const small = isSmall(image);
    image.className = small ? "main pixels" : "main";
    image.alt = `Image ${side.toUpperCase()}: ${shown.pair[side].name}`;
    layers.push(image);
    if (over?.image) {
      over.image.className = small ? "over pixels" : "over";
      over.image.alt = "";
      layers.push(over.image);
    }
    if (map && !over) {
      const [left, top, right, bottom] = shown.pair.map[side];
      map.className = "map";
      map.alt = "";
      Object.assign(map.style, { inset: "auto", left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%` });
      layers.push(map);
    }
  }
  stage.classList.toggle("minus", Boolean(over));
  stage.replaceChildren(...layers);
}

function draw() {
  if (!shown) return;
  const one = view.mode !== "sides", { a, b } = shown.pictures;
  const mapped = view.map && view.mode !== "minus";  // a map is of one image, and greys it: a difference must stay true
  find("frames").className = `frames${one ? " one" : ""}${mapped ? " mapped" : ""}`;
  frames.b.hidden = one;
  frames.a.querySelector(".tag").textContent = view.mode === "minus" ? "A − B" : view.mode === "flicker" ? view.front.toUpperCase() : "A";
  frames.a.querySelector(".tag").setAttribute("aria-live", view.mode === "flicker" ? "polite" : "off");
  if (view.mode === "sides") { fill(frames.a, "a"); fill(frames.b, "b"); }
  if (view.mode === "flicker") fill(frames.a, view.front);
  if (view.mode === "minus") fill(frames.a, "a", b);
  const unread = frames.a.querySelector(".unread");
  unread.hidden = Boolean((view.mode === "flicker" ? shown.pictures[view.front] : a).image);
  for (const mode of ["sides", "flicker", "minus"]) find(`view-${mode}`).setAttribute("aria-pressed", view.mode === mode);
  find("view-map").setAttribute("aria-pressed", mapped);
  find("view-map").disabled = !shown.pair.map;
  place();
}

function fitted(frame) {
  const image = frame.querySelector(".stage img");
  if (!image || !image.naturalWidth) return null;
  const { clientWidth: width, clientHeight: height } = frame;
  const fit = Math.min(width / image.naturalWidth, height / image.naturalHeight);
  return { fit, width, height, w: image.naturalWidth * fit, h: image.naturalHeight * fit };
}

// One transform for both frames: view.x and view.y are in shares of the frame, so that frames of any size agree.
function place() {
  const limit = 1 - view.scale;
  view.x = Math.min(0, Math.max(limit, view.x));
  view.y = Math.min(0, Math.max(limit, view.y));
  for (const frame of Object.values(frames)) {
    const box = frame.hidden ? null : fitted(frame);
    frame.classList.toggle("zoomed", view.scale > 1);
    if (!box) continue;
    Object.assign(frame.querySelector(".stage").style, {
      width: `${box.w}px`, height: `${box.h}px`,
      transform: `translate(${view.x * box.width}px, ${view.y * box.height}px) scale(${view.scale}) translate(${(box.width - box.w) / 2}px, ${(box.height - box.h) / 2}px)`,
    });
  }
  const box = fitted(frames.a);
  find("zoom").textContent = box ? `${Math.round(100 * box.fit * view.scale)} %` : "";
  find("view-zoom").setAttribute("aria-pressed", view.scale > 1);
}

function zoomTo(scale, x = 0.5, y = 0.5) {
  const next = Math.min(32, Math.max(1, scale));
  view.x = x - (x - view.x) * next / view.scale;
  view.y = y - (y - view.y) * next / view.scale;
  view.scale = next;
  place();
}

export function setMode(mode) {
  if (mode === "flicker" && view.mode === "flicker") view.front = view.front === "a" ? "b" : "a";
  else if (mode === "flicker") view.front = "b";  // the other image than the one just looked at
  view.mode = mode === view.mode && mode === "minus" ? "sides" : mode;
  draw();
}

export function toggleMap() {
  if (!shown?.pair.map) return;
  view.map = view.mode === "minus" || !view.map;
  if (view.mode === "minus") view.mode = "sides";
  draw();
}

export function toggleZoom() {
  const box = fitted(frames.a);
  if (box) zoomTo(view.scale > 1 ? 1 : Math.max(2, 1 / box.fit));
}

export const zoomBy = factor => zoomTo(view.scale * factor);

export function pan(x, y) {
  if (view.scale === 1) return false;
  view.x -= x; view.y -= y;
  place();
  return true;
}

for (const frame of Object.values(frames)) {
  const at = event => {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  frame.addEventListener("wheel", event => {
    if (!event.ctrlKey && view.scale === 1 && event.deltaY > 0) return;  // nothing to zoom out of: let the page scroll
    event.preventDefault();
    zoomTo(view.scale * Math.exp(-event.deltaY / 300), ...at(event));
  }, { passive: false });
  let from = null, moved = false;
  frame.addEventListener("pointerdown", event => {
    from = at(event); moved = false;
    if (view.scale > 1) frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", event => {
    if (!from || view.scale === 1) return;
    const [x, y] = at(event);
    if (Math.hypot(x - from[0], y - from[1]) > 0.004) moved = true;
    frame.classList.add("dragged");
    pan(from[0] - x, from[1] - y);
    from = [x, y];
  });
  for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, event => {
    if (end === "pointerup" && from && !moved) zoomTo(view.scale > 1 ? 1 : 3, ...at(event));
    from = null;
    frame.classList.remove("dragged");
  });
  new ResizeObserver(place).observe(frame);
}
