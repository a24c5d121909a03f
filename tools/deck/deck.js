// Set the mathematics, fit every slide to its sheet, then start the presentation.

const LARGEST = 34;
const SMALLEST = 24; // pixels of a sheet 1280 wide; code and tables are three quarters of it
const WIDE = [1, 0.9, 0.8]; // for long lines of code and formulas, before all type gets smaller

// The largest type with which nothing leaves the sheet.
function fit(sheet) {
  const body = sheet.querySelector(".body");
  for (let size = LARGEST; size >= SMALLEST; size--) {
    for (const wide of WIDE) {
      sheet.style.fontSize = `${size}px`;
      sheet.style.setProperty("--wide", wide);
      if (body.scrollHeight <= body.clientHeight && body.scrollWidth <= body.clientWidth) return;
    }
  }
}

// Keep a figure at nine tenths of its own size or more, as far as the sheet is wide enough.
function reserve(image) {
  const figure = image.parentElement;
  const scale = Math.min(0.9, figure.clientWidth / image.naturalWidth);
  figure.style.minHeight = `${Math.floor(scale * image.naturalHeight)}px`;
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
  document.body.classList.add("measuring");
  document.body.getBoundingClientRect(); // fonts load when the text they are for is laid out
  await document.fonts.ready;
  const images = document.querySelectorAll("figure img");
  await Promise.all(Array.from(images, (image) => image.decode()));
  images.forEach(reserve);
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
