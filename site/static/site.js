// A formula that is wider than the page is scrolled with the keyboard, too.
async function reachWideFormulas() {
  if (window.MathJax) await MathJax.startup.promise
  for (const formula of document.querySelectorAll("mjx-container[display]"))
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0
    else formula.removeAttribute("tabindex")
}

addEventListener("load", reachWideFormulas)
addEventListener("resize", reachWideFormulas)
