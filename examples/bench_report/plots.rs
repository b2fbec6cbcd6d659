//! Lines over connections, as SVG.

use crate::{Result, servers};
use plotters::prelude::*;
use std::path::Path;

/// One line: a name, and points of connections and what was measured.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (760, 440);

/// Colours that differ in lightness too, for who sees no hue (the palette of
/// Okabe and Ito, 2008).
const COLOURS: [RGBColor; 5] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167), RGBColor(86, 86, 86)];

/// Where a plot has room for its legend.
pub use plotters::chart::SeriesLabelPosition as Legend;

/// Draws lines over connections, both axes logarithmic.
pub fn draw(path: &Path, title: &str, unit: &str, lines: &[Line], legend: Legend) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(_, y)| y.is_finite() && *y > 0.0);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (left, right) = range(&mut points().map(|(x, _)| *x));
    let (low, high) = range(&mut points().map(|(_, y)| *y));
    if !low.is_finite() {
        return Err(format!("{title}: nothing was measured").into());
    }
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d((left..right * 1.1).log_scale(), (low / 1.5..high * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("connections")
        .y_desc(unit)
        .x_label_formatter(&|x| crate::series::thousands(*x))
        .y_label_formatter(&|y| crate::series::thousands(*y))
        .light_line_style(WHITE)
        .draw()?;
    for (n, line) in lines.iter().enumerate() {
        // A server has the same colour in every plot.
        let place = servers::ALL.iter().position(|(name, _)| *name == line.name).unwrap_or(n);
        let colour = &COLOURS[place % COLOURS.len()];
        let drawn = || line.points.iter().copied().filter(|(_, y)| y.is_finite() && *y > 0.0);
        chart
            .draw_series(LineSeries::new(drawn(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(drawn().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    let (border, background) = (BLACK, WHITE.mix(0.8));
    let labels =
        chart.configure_series_labels().position(legend).border_style(border).background_style(background).draw();
    labels?;
    root.present()?;
    Ok(())
}
