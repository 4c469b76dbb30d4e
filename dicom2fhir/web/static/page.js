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
document.addEventListener("submit", (event) => {
  if (event.target.id !== "explain") return;
  event.preventDefault();
  const input = document.getElementById("file");
  if (input.files[0].size > Number(input.dataset.most)) {
    show("The file is too large.");
    return;
  }
  const query = new URLSearchParams(new FormData(event.target));
  const headers = JSON.parse(document.body.getAttribute("hx-headers"));
  fetch(`/explain?${query}`, { method: "POST", body: input.files[0], headers: { ...headers, "hx-request": "true" } })
    .then(async (answer) => {
      const text = await answer.text();
      document.getElementById("message").hidden = true;
      if (answer.ok) document.getElementById("result").innerHTML = text; // escaped by the template
      else show(JSON.parse(text).error);
    })
    .catch(() => show("The bridge does not answer."));
});
