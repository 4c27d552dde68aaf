// A button on each piece of code that copies it.
"use strict";
document.querySelectorAll("article div.highlight").forEach((box) => {
  const code = box.querySelector("pre");
  if (!code || !navigator.clipboard || box.closest(".cell_output")) return;
  const button = document.createElement("button");
  button.className = "copy";
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  box.append(button);
});
