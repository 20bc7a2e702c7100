//! The page: everything in one file, to be looked at without a network.

use super::{Report, plot, table};
use crate::Outcome;
use crate::bench::Section;
use crate::cli::Pace;
use crate::figure::{Better, Figure, Role};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { margin-bottom: 0; } h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; } h3 { margin: 2rem 0 0.3rem; }
table { border-collapse: collapse; margin: 0.7rem 0; font-size: 13px; display: block; overflow-x: auto; }
th, td { border: 1px solid #ddd; padding: 0.2rem 0.55rem; text-align: right; white-space: nowrap; }
th { background: #f4f4f4; } td.limit { color: #666; } td.subject { background: #eef5ff; }
small { color: #777; display: block; } .loud { background: #fff0f0; border-left: 4px solid #c33; padding: 0.4rem 0.8rem; }
.missing { background: #fff8e5; border-left: 4px solid #d90; padding: 0.4rem 0.8rem; } nav a { margin-right: 0.8rem; }
svg { width: 100%; height: auto; }";

/// All of the run.
pub(crate) fn page(report: &Report) -> Outcome<String> {
    let sections = report.sections.iter().map(section).collect::<Outcome<Vec<_>>>()?;
    let machine = &report.machine;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; meta name="viewport" content="width=device-width"; title { "farbench" } style { (PreEscaped(STYLE)) } }
            body {
                h1 { "farbench" }
                p { "farptr " (machine.farptr) " on " (machine.describe()) ". Measured in " (format!("{:.0}", report.seconds)) " s." }
                @if report.pace == Pace::Quick {
                    p.missing { "A quick run: small data sets and few samples give an impression. What is quoted should come from a full run." }
                }
                @if machine.build != "release" { p.loud { "A debug build: these numbers mean nothing." } }
                p {
                    "Each number is a median of runs that alternated with those of the other columns; below it the quartiles, and how far it is from the \
                     limit of its row: " b { "2.00x" } " is twice what is needed at least, " b { "50%" } " half of what is possible at most. Nothing \
                     here was measured elsewhere. A figure of a paper is named where an experiment was built after it, and its values are not shown."
                }
                table {
                    tr { th { "Huge pages" } td { (machine.huge_pages) } }
                    tr { th { "Virtual machine" } td { (if machine.virtual_machine { "yes: expect noise" } else { "no" }) } }
                    tr { th { "Data set" } td { (report.size.map_or("each experiment's own".into(), |size| format!("{size} bytes"))) } }
                }
                nav { @for section in &report.sections { a href=(format!("#{}", section.name)) { (section.name) } } }
                @for section in &sections { (section) }
            }
        }
    };
    Ok(page.into_string())
}

fn section(section: &Section) -> Outcome<Markup> {
    let figures = section.figures.iter().map(|each| figure(section.name, each)).collect::<Outcome<Vec<_>>>()?;
    Ok(html! {
        h2 id=(section.name) { (section.name) }
        p {
            (section.about) ". "
            small { (format!("{:.0} s; load of the machine {:.2} before, {:.2} after", section.seconds, section.load[0], section.load[1])) }
        }
        @if let Some(failure) = &section.failure { p.loud { b { "Failed: " } (failure) } }
        @for (what, why) in &section.missing { p.missing { b { "Not available here: " (what) } ": " (why) } }
        @for note in &section.notes { p { (note) } }
        @for figure in &figures { (figure) }
    })
}

fn figure(experiment: &str, figure: &Figure) -> Outcome<Markup> {
    let series = figure.series();
    let direction = if figure.unit.better == Better::Less { "less is better" } else { "more is better" };
    let plot = plot::svg(figure)?;
    let misjudged = figure.misjudged();
    Ok(html! {
        h3 id=(format!("{experiment}-{}", figure.id)) { (figure.title) }
        p { (figure.reading) " In " (figure.unit.name) ", " (direction) "." }
        (PreEscaped(plot))
        table {
            tr { th { (figure.axis.label()) } @for (name, _) in &series { th { (name) } } }
            @for (place, fields) in table::rows(figure) {
                tr {
                    th { (place) }
                    @for (field, (_, role)) in fields.iter().zip(&series) {
                        td class=(class(*role)) {
                            @if let Some(field) = field {
                                (field.value)
                                @if let Some(spread) = &field.spread { small { (spread) } }
                                @if let Some(distance) = &field.distance { small { b { (distance) } } }
                            }
                        }
                    }
                }
            }
        }
        @if !misjudged.is_empty() {
            p.missing { b { "The model is off by more than 20%: " } (misjudged.join("; ")) "." }
        }
    })
}

fn class(role: Role) -> &'static str {
    match role {
        Role::Subject => "subject",
        Role::Limit => "limit",
        Role::Alternative | Role::Ablation | Role::Model => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_page_is_self_contained_and_escapes_what_it_shows() {
        let page = page(&sample()).expect("a page");
        assert!(page.contains("Reads by &lt;size&gt;") && page.contains("a failure &amp; its cause"));
        assert!(page.contains("not root") && page.contains("A note.") && page.contains("<svg"));
        assert!(page.contains("model is off by more than 20%"));
        for elsewhere in ["src=", "href=\"http", "@import", "<script"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}
