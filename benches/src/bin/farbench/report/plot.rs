//! A figure as SVG. Places stand at even distances, whatever their numbers: what is measured at 1, 2, 4, .. 256 reads well, and so do names.

use crate::Outcome;
use crate::figure::{Axis, Cell, Figure, Role};
use crate::stats::human;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::full_palette;

/// Size in pixels; the page scales it.
const SIZE: (u32, u32) = (900, 420);

/// Beyond this ratio between the largest and the smallest value the scale is logarithmic.
const LINEAR_UP_TO: f64 = 30.0;

/// Colours that can be told apart, for farptr and its variants, for limits, and for what else there is.
const SUBJECTS: [RGBColor; 6] = [
    full_palette::BLUE_700,
    full_palette::TEAL_600,
    full_palette::DEEPPURPLE_500,
    full_palette::LIGHTBLUE_500,
    full_palette::INDIGO_900,
    full_palette::CYAN_700,
];
const LIMITS: [RGBColor; 4] =
    [full_palette::GREY_800, full_palette::GREY_500, full_palette::BROWN_400, full_palette::BLUEGREY_400];
const OTHERS: [RGBColor; 8] = [
    full_palette::ORANGE_700,
    full_palette::RED_600,
    full_palette::PINK_400,
    full_palette::LIME_800,
    full_palette::AMBER_500,
    full_palette::DEEPORANGE_900,
    full_palette::GREEN_600,
    full_palette::PURPLE_300,
];

/// Colours by role and by turn.
fn colours(figure: &Figure) -> Vec<RGBColor> {
    let mut turns = [0usize; 3];
    let mut next = |which: usize, palette: &[RGBColor]| {
        turns[which] += 1;
        palette[(turns[which] - 1) % palette.len()]
    };
    let series = figure.series();
    let colour = |(_, role): &(&str, Role)| match role {
        Role::Subject => next(0, &SUBJECTS),
        Role::Limit => next(1, &LIMITS),
        Role::Alternative | Role::Ablation | Role::Model => next(2, &OTHERS),
    };
    series.iter().map(colour).collect()
}

/// The figure as SVG.
pub(crate) fn svg(figure: &Figure) -> Outcome<String> {
    let values = || figure.cells.iter().map(|cell| cell.summary.median).filter(|value| *value > 0.0);
    let least = values().fold(f64::INFINITY, f64::min);
    let most = figure.cells.iter().map(|cell| cell.summary.high).fold(0.0, f64::max);
    if !least.is_finite() {
        return draw(figure, 0.0..1.0, 0.0);
    }
    if most / least > LINEAR_UP_TO {
        let floor = least / 2.0;
        draw(figure, (floor..most * 1.5).log_scale(), floor)
    } else {
        draw(figure, 0.0..most * 1.1, 0.0)
    }
}

fn draw<Y>(figure: &Figure, scale: Y, floor: f64) -> Outcome<String>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let (places, series, colours) = (figure.places(), figure.series(), colours(figure));
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(45)
            .y_label_area_size(75)
            .build_cartesian_2d(-0.5..places.len() as f64 - 0.5, scale)?;
        let name = |x: &f64| {
            let at = x.round();
            // A label is wanted where a place is, and nowhere else.
            let place = places.get(at as usize).filter(|_| (x - at).abs() < 0.01 && at >= 0.0);
            place.map(ToString::to_string).unwrap_or_default()
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(2 * places.len() + 1)
            .x_label_formatter(&name)
            .y_label_formatter(&|y| human(*y))
            .x_desc(figure.axis.label())
            .y_desc(figure.unit.name)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (turn, (name, role)) in series.iter().enumerate() {
            let colour = colours[turn];
            let cells: Vec<(usize, &Cell)> =
                places.iter().enumerate().filter_map(|(at, place)| Some((at, figure.cell(name, place)?))).collect();
            let width = 0.8 / series.len() as f64;
            let left = |at: usize| at as f64 - 0.4 + width * turn as f64;
            // Spread: a line from quartile to quartile.
            let middle = |at: usize| if let Axis::Names(_) = figure.axis { left(at) + width / 2.0 } else { at as f64 };
            let spread = cells.iter().map(|(at, cell)| {
                let (low, high) = (cell.summary.low.max(floor), cell.summary.high.max(floor));
                PathElement::new([(middle(*at), low), (middle(*at), high)], BLACK.mix(0.6).stroke_width(1))
            });
            let drawn = match figure.axis {
                Axis::Names(_) => chart.draw_series(cells.iter().map(|(at, cell)| {
                    let corners = [(left(*at), floor), (left(*at) + width * 0.95, cell.summary.median.max(floor))];
                    Rectangle::new(corners, colour.filled())
                }))?,
                Axis::Numbers(_) => {
                    let points: Vec<_> = cells.iter().map(|(at, cell)| (*at as f64, cell.summary.median.max(floor))).collect();
                    let width = if *role == Role::Subject { 3 } else { 1 };
                    chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
                    chart.draw_series(LineSeries::new(points, colour.stroke_width(width)))?
                }
            };
            drawn.label(*name).legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 14, y + 4)], colour.filled()));
            chart.draw_series(spread)?;
        }
        chart.configure_series_labels().position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.8)).draw()?;
        area.present()?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn lines_and_bars_are_drawn_with_their_names() {
        let report = sample();
        for figure in &report.sections[0].figures {
            let svg = svg(figure).expect("a plot");
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            for (name, _) in figure.series() {
                assert!(svg.contains(name), "{name} in {svg}");
            }
            for place in figure.places() {
                assert!(svg.contains(&format!("\n{place}\n")), "{place} in {svg}");
            }
        }
    }

    #[test]
    fn a_figure_of_zeros_or_of_far_apart_values_can_be_drawn() {
        let mut figure = sample().sections.remove(0).figures.remove(0);
        figure.cells.iter_mut().for_each(|cell| cell.summary = crate::stats::Summary::exact(0.0));
        svg(&figure).expect("a plot of nothing");
        figure.cells[0].summary = crate::stats::Summary::exact(1e-3);
        figure.cells[1].summary = crate::stats::Summary::exact(1e9);
        svg(&figure).expect("a plot over twelve decades");
    }
}
