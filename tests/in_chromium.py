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


def below_contrast(page):
    """Return the texts of a page whose contrast is below AA of WCAG 2: 4.5, or 3 where large."""
    return page.evaluate(
        """() => {
          const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
          const rgba = colour => {
            pen.clearRect(0, 0, 1, 1);
            pen.fillStyle = colour;
            pen.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
            return [r, g, b, a / 255];
          };
          const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
          const light = rgb => [.2126, .7152, .0722].reduce((sum, weight, i) => {
            const v = rgb[i] / 255;
            return sum + weight * (v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
          }, 0);
          const behind = element => {
            const layers = [];
            for (let e = element; e; e = e.parentElement) {
              layers.push(rgba(getComputedStyle(e).backgroundColor));
              if (layers.at(-1)[3] === 1) break;
            }
            return layers.reverse().reduce((low, layer) => over(layer, low), [255, 255, 255, 1]);
          };
          const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          for (let node; (node = walk.nextNode());) {
            const on = node.parentElement;
            if (!node.data.trim() || !on.checkVisibility() || on.matches("script, style")) continue;
            const style = getComputedStyle(on), paper = behind(on);
            const ink = over(rgba(on.closest("svg") ? style.fill : style.color), paper);
            const [low, high] = [light(ink), light(paper)].sort((a, b) => a - b);
            const size = parseFloat(style.fontSize);
            const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
            const contrast = (high + .05) / (low + .05);
            if (contrast < (large ? 3 : 4.5)) found.push([node.data.trim(), contrast]);
          }
          return found;
        }"""
    )


def beyond_their_pictures(page):
    """Return the texts of pictures that lie beyond the edges of their picture."""
    return page.evaluate(
        """[...document.querySelectorAll("figure svg")].flatMap(s => {
          if (!s.checkVisibility()) return [];
          const all = s.getBoundingClientRect();
          return [...s.querySelectorAll("text")].filter(text => {
            const box = text.getBoundingClientRect();
            return box.left < all.left - 3 || box.right > all.right + 3
              || box.top < all.top - 3 || box.bottom > all.bottom + 3;
          }).map(text => text.textContent);
        })"""
    )
