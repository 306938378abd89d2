//! The page around the parts of a report.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocifs::digest::Digest;

use super::Markup;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// A report that grows by sections.
#[derive(Debug)]
pub(crate) struct Page {
    title: String,
    /// What stands below the title.
    lead: Markup,
    links: Markup,
    body: Markup,
    sections: u64,
}

impl Page {
    /// One without sections. What it is about is text of others.
    pub(crate) fn new(title: &str, lead: Markup) -> Page {
        let title = title.to_owned();
        Page { title, lead, links: Markup::default(), body: Markup::default(), sections: 0 }
    }

    /// Adds a section under a heading.
    pub(crate) fn section(&mut self, heading: &'static str, content: &Markup) {
        self.sections += 1;
        let number = self.sections;
        self.links
            .tags("<li><a href=\"#s")
            .number(number)
            .tags("\">")
            .tags(heading)
            .tags("</a></li>");
        self.body.tags("<section aria-labelledby=\"s").number(number).tags("\">\n<h2 id=\"s");
        self.body.number(number).tags("\">").tags(heading).tags("</h2>\n").append(content);
        self.body.tags("</section>\n");
    }

    /// The document.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Markup::default();
        out.tags("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        out.tags("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-");
        out.text(&hash(STYLE)).tags("'; script-src 'sha256-").text(&hash(SCRIPT));
        out.tags("'; base-uri 'none'; form-action 'none'\">\n");
        out.tags("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        out.tags("<meta name=\"color-scheme\" content=\"light dark\">\n");
        out.tags("<meta name=\"referrer\" content=\"no-referrer\">\n<title>").text(&self.title);
        out.tags("</title>\n<style>").tags(STYLE).tags("</style>\n</head>\n<body>\n");
        out.tags("<a class=\"skip\" href=\"#main\">Skip to the report</a>\n<header>\n<h1>");
        out.text(&self.title).tags("</h1>\n").append(&self.lead).tags("</header>\n");
        out.tags("<nav aria-label=\"Sections\"><ul>").append(&self.links).tags("</ul></nav>\n");
        out.tags("<main id=\"main\" tabindex=\"-1\">\n")
            .append(&self.body)
            .tags("</main>\n<footer><p>");
        out.tags("Made by ocifs ").tags(env!("CARGO_PKG_VERSION"));
        out.tags(". K, M and G are powers of 1024. Characters that would not be shown as what they are stand as ");
        out.tags("<code>?</code> or <code>\u{fffd}</code>.</p></footer>\n<script>");
        out.tags(SCRIPT).tags("</script>\n</body>\n</html>\n");
        out.into_bytes()
    }
}

/// As a policy names what is inline.
fn hash(text: &str) -> String {
    STANDARD.encode(Digest::sha256(text.as_bytes()).hash())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A browser would end the element there, and the hash would be of something else.
    #[test]
    fn style_and_script_end_where_they_end() {
        for text in [STYLE, SCRIPT] {
            assert!(!text.contains("</") && !text.contains("<!--") && !text.contains('\r'));
            assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("url("));
        }
    }

    #[test]
    fn a_page_has_one_policy_before_everything_else() {
        let mut page = Page::new("<script>", Markup::default());
        page.section("One", &Markup::default());
        let text = String::from_utf8(page.finish()).unwrap();
        assert_eq!(text.matches("<script>").count(), 1);
        assert_eq!(text.matches("&lt;script&gt;").count(), 2);
        let policy = text.find("Content-Security-Policy").unwrap();
        assert!(policy < text.find("<style>").unwrap() && policy < text.find("<title>").unwrap());
        assert!(text.contains("'sha256-") && !text.contains("unsafe") && !text.contains(" style="));
        assert!(text.contains("<a href=\"#s1\">One</a>") && text.contains("id=\"s1\""));
    }
}
