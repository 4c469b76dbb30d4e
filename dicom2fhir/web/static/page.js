"use strict";
// Shows why a change failed: htmx itself says nothing.
function show(text) {
  const message = document.getElementById("message");
  message.textContent = text;
  message.hidden = false;
}
document.addEventListener("htmx:responseError", (event) => {
  let text = `The bridge answered ${event.detail.xhr.status}.`;
  try {
    text = JSON.parse(event.detail.xhr.responseText).error;
  } catch {
    // not an answer of the bridge; the status has to do
  }
  show(text);
});
document.addEventListener("htmx:sendError", () => show("The bridge does not answer."));
document.addEventListener("click", (event) => {
  if (!event.target.matches("button.copy")) return;
  navigator.clipboard.writeText(event.target.nextElementSibling.textContent).then(
    () => { event.target.textContent = "Copied"; },
    () => show("The browser did not allow to copy."),
  );
});
