(function () {
  // sorting: every heading of the table of conditions is a button
  var table = document.getElementById("per-condition"), body = table.tBodies[0];
  var heads = Array.from(table.tHead.rows[0].cells);
  function key(row, k) {
    var cell = row.cells[k];
    if (k < 2) return cell.textContent;
    if (cell.hasAttribute("title")) return NaN;
    return parseFloat(cell.dataset.v || cell.textContent.replace(/,/g, ""));
  }
  heads.forEach(function (head, k) {
    head.querySelector("button").addEventListener("click", function () {
      var up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(function (h) { h.setAttribute("aria-sort", "none"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      var rows = Array.from(body.rows);
      rows.sort(function (a, b) {
        var x = key(a, k), y = key(b, k);
        if (k < 2) return up ? x.localeCompare(y) : y.localeCompare(x);
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
        return up ? x - y : y - x;
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });

  // the filter box
  var filter = document.getElementById("filter"), box = filter.querySelector("input"), count = filter.querySelector("output");
  filter.hidden = body.rows.length < 2;
  box.addEventListener("input", function () {
    var wanted = box.value.trim().toLowerCase(), shown = 0;
    Array.from(body.rows).forEach(function (row) {
      var fits = (row.cells[0].textContent + " " + row.cells[1].textContent).toLowerCase().indexOf(wanted) >= 0;
      row.hidden = !fits;
      shown += fits;
    });
    count.textContent = wanted ? shown + " of " + body.rows.length : "";
  });

  // folding: a link opens what it points at, printing opens all
  var all = Array.from(document.querySelectorAll("details")), button = document.getElementById("unfold");
  function unfold(open) { all.forEach(function (d) { d.open = open; }); button.textContent = open ? "Close all" : "Open all"; }
  function follow() {
    var found = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!found) return;
    var inside = found.querySelector(":scope > details.fold");
    if (inside) inside.open = true;
    for (var up = found; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
    found.scrollIntoView();
  }
  button.hidden = false;
  button.addEventListener("click", function () { unfold(button.textContent === "Open all"); });
  document.addEventListener("click", function (e) {
    if (e.target.closest && e.target.closest("a[href^='#']")) setTimeout(follow, 0);
  });
  window.addEventListener("hashchange", follow);
  window.addEventListener("beforeprint", function () { unfold(true); });
  if (/[?&]open\b/.test(location.search)) unfold(true);
  follow();
})();
