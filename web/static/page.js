// Asks how the payment stands, and shows a click that is under way. The page says and does the same without it.
"use strict";

(() => {
  const FIRST = 1000; // ms until the first question; each later one waits half as long again, up to the longest
  const LONGEST = 30000;
  const LATE = 60000; // from then on the page says that this takes longer than usual
  const notice = document.getElementById("notice");

  // Check out: a second click while the first is under way would be a second request.
  for (const form of document.querySelectorAll("form.check-out")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.busy) event.preventDefault();
      form.dataset.busy = "yes";
    });
    if (form.dataset.again) setTimeout(() => form.requestSubmit(), Number(form.dataset.again) * 1000);
  }
  // Coming back with the browser's own button may show the page as it was left.
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form.check-out")) delete form.dataset.busy;
  });

  if (!notice || !notice.dataset.ask) return;

  const began = Date.now();
  let wait = FIRST;
  let timer;

  const later = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(ask, ms);
  };

  const show = (now) => {
    if (!now.title) return location.reload(); // the quote can be checked out (again): that is another page
    if (now.state === notice.dataset.state) return;
    notice.dataset.state = now.state;
    notice.dataset.tone = now.tone;
    notice.querySelector("use").setAttribute("href", `#icon-${now.tone}`);
    document.getElementById("notice-title").textContent = now.title;
    document.getElementById("notice-text").textContent = now.text;
    document.querySelector("main").dataset.offer = now.offer;
    document.title = document.title.replace(/^[^·]*/, () => `${now.title} `);
    document.getElementById("notice-ask").hidden = !now.ask_seller;
  };

  const ask = async () => {
    if (document.hidden) return; // asked when it is looked at again
    let least = 0;
    try {
      const answer = await fetch(notice.dataset.ask, { cache: "no-store", headers: { Accept: "application/json" } });
      if (answer.ok) {
        const now = await answer.json();
        show(now);
        if (!now.passing) {
          const late = document.getElementById("late");
          if (late) late.hidden = true;
          return;
        }
      } else if (answer.status === 404) {
        return;
      } else {
        least = Number(answer.headers.get("Retry-After")) * 1000 || 0;
      }
    } catch {
      // No network: asked again like everything else.
    }
    const late = document.getElementById("late");
    if (late && Date.now() - began > LATE) late.hidden = false;
    wait = Math.min(wait * 1.5, LONGEST);
    later(Math.max(wait, least));
  };

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) later(0);
  });
  later(wait);
})();
