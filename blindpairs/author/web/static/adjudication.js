// Settling disputes: one of the texts that people wrote, or a rejection, becomes the decision that counts.
import { ask, showBanner, showSaved } from "/static/common.js";

document.addEventListener("click", async event => {
  const button = event.target.closest("button[data-form]"), dispute = event.target.closest(".dispute");
  if (!button || dispute.dataset.settled) return;
  dispute.dataset.settled = "yes";  // a double click settles once
  const { accepted, form, reason } = button.dataset;
  try {
    await ask("POST", "/api/decide", {
      pair_id: dispute.dataset.pair, accepted: accepted === "true", form: JSON.parse(form), reason, settles: true, based_on: Number(dispute.dataset.revision),
    });
    dispute.querySelector(".settled").textContent = `Settled: ${accepted === "true" ? "accepted" : "rejected"}.`;
    for (const one of dispute.querySelectorAll("button")) one.disabled = true;
    showBanner("");
    showSaved("saved");
  } catch (error) {
    delete dispute.dataset.settled;
    showBanner(`NOT SAVED: ${error.message}. ${error.status === 409 ? "Reload the page to see what is new" : "Press the same button again"}.`);
  }
});
