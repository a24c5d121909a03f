// Set the mathematics, fit every slide to its sheet, then start the presentation.

const LARGEST = 34;
const SMALLEST = 24; // pixels of a sheet 1280 wide; code and tables are three quarters of it

// The largest type with which nothing leaves the sheet.
function fit(sheet) {
  const body = sheet.querySelector(".body");
  for (let size = LARGEST; size >= SMALLEST; size--) {
    sheet.style.fontSize = `${size}px`;
    if (body.scrollHeight <= body.clientHeight && body.scrollWidth <= body.clientWidth) return;
  }
}

// Show the code behind the current slide, or put it away.
function turnCode() {
  const panel = document.getElementById("code");
  const source = Reveal.getCurrentSlide().querySelector(".source");
  panel.hidden = !panel.hidden || !source;
  panel.innerHTML = source ? source.innerHTML : "";
  if (!panel.hidden) panel.focus();
}

async function start() {
  await MathJax.startup.defaultPageReady();
  await document.fonts.ready;
  document.body.classList.add("measuring");
  document.querySelectorAll(".sheet").forEach(fit);
  document.body.classList.remove("measuring");
  await Reveal.initialize({
    width: 1280,
    height: 720,
    margin: 0,
    maxScale: 4,
    center: false,
    controls: false,
    hash: true,
    navigationMode: "linear",
    pdfSeparateFragments: false,
    slideNumber: "c/t",
    transition: "none",
    plugins: [RevealNotes],
  });
  Reveal.addKeyBinding({ keyCode: 67, key: "C", description: "The code behind the slide" }, turnCode);
  Reveal.on("slidechanged", () => (document.getElementById("code").hidden = true));
  document.querySelectorAll(".code-key").forEach((button) => button.addEventListener("click", turnCode));
  document.body.classList.add("ready");
}

window.MathJax = {
  tex: { inlineMath: [["$", "$"]], displayMath: [["$$", "$$"]], packages: { "[-]": ["noundefined"] } },
  svg: { fontCache: "local" }, // the window of the speaker notes has no other cache
  options: { enableMenu: false },
  startup: { pageReady: start },
};
