"""What is done with a page that a browser has opened."""


def use_everything(page):
    """Press every button, open all that folds, choose every option, and type into every box."""
    for fold in page.query_selector_all("summary:not([hidden] *, [hidden])"):
        fold.click()
    count = page.evaluate(
        """() => {
          let used = 0;
          const press = selector => {
            for (let i = 0; i < document.querySelectorAll(selector).length; i++) {
              document.querySelectorAll(selector)[i].click();
              used++;
            }
          };
          press("thead button");
          press("section button");
          for (let s = 0; s < document.querySelectorAll("select").length; s++)
            for (let o = 0; o < document.querySelectorAll("select")[s].options.length; o++) {
              const select = document.querySelectorAll("select")[s];
              select.selectedIndex = o;
              select.dispatchEvent(new Event("change"));
              used++;
            }
          for (const box of document.querySelectorAll("input")) {
            box.value = "1";
            box.dispatchEvent(new Event("input"));
            box.value = "";
            box.dispatchEvent(new Event("input"));
            used++;
          }
          const marks = [...document.querySelectorAll("[data-tip], [data-cells]")];
          for (const mark of marks.slice(0, 200)) {
            const {left, top, width, height} = mark.getBoundingClientRect();
            const at = {bubbles: true, clientX: left + width / 2, clientY: top + height / 2};
            mark.dispatchEvent(new PointerEvent("pointermove", at));
            mark.dispatchEvent(new MouseEvent("click", at));
            used++;
          }
          return used;
        }"""
    )
    for key in ("Tab", "Enter", "ArrowRight", "ArrowDown", "Escape"):
        page.keyboard.press(key)
    return count


def is_whole(page):
    """Nothing of the page itself lies beyond its right edge."""
    wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return wide <= inner
