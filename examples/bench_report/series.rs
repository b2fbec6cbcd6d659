//! Several measurements of one thing: median, lowest and highest.

use reactord::client::bench::Figures;

/// What one contestant reached in the rounds so far.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub name: String,
    pub throughput: Vec<f64>,
    pub p50: Vec<f64>,
    pub p99: Vec<f64>,
}

impl Series {
    pub fn new(name: &str) -> Series {
        Series { name: name.to_owned(), ..Series::default() }
    }

    /// Adds a round: answers a second, microseconds.
    pub fn add(&mut self, figures: &Figures) {
        self.add_with(figures, figures.per_s);
    }

    /// Adds a round whose throughput is in another unit.
    pub fn add_with(&mut self, figures: &Figures, throughput: f64) {
        self.throughput.push(throughput);
        self.p50.push(figures.p50_us);
        self.p99.push(figures.p99_us);
    }

    pub fn median(&self) -> f64 {
        median(&self.throughput)
    }
}

/// The value in the middle; of an even number the mean of both. NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The lowest and the highest.
pub fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// A whole number with its thousands apart.
pub fn thousands(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A table of series: throughput in `unit`, latencies, and each one's ratio to
/// the first of the name `to`, which is what the goals are about.
pub fn table(series: &[Series], unit: &str) -> String {
    let own = series.iter().find(|one| one.name == crate::servers::REACTOR).map(Series::median);
    let mut text = format!(
        "| server | {unit} | lowest to highest | p50 µs | p99 µs | reactord is |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for one in series {
        let (low, high) = spread(&one.throughput);
        let ratio = own.map_or_else(String::new, |own| format!("{:.2} ×", own / one.median()));
        text += &format!(
            "| {} | {} | {} to {} | {} | {} | {ratio} |\n",
            one.name,
            thousands(one.median()),
            thousands(low),
            thousands(high),
            thousands(median(&one.p50)),
            thousands(median(&one.p99)),
        );
    }
    text
}

/// Whether a goal is met: "reactord against NAME: 1.23 × (goal 1.20): met".
pub fn verdict(series: &[Series], against: &[&str], goal: f64) -> String {
    let of = |name: &str| series.iter().find(|one| one.name == name).map(Series::median);
    let best =
        against.iter().filter_map(|name| of(name).map(|value| (value, *name))).max_by(|a, b| a.0.total_cmp(&b.0));
    match (of(crate::servers::REACTOR), best) {
        (Some(own), Some((best, name))) => {
            let ratio = own / best;
            let met = if ratio >= goal { "met" } else { "missed" };
            format!("- against {name}: {ratio:.2} × (goal: at least {goal:.2}): **{met}**\n")
        }
        _ => format!("- against {}: not measured (goal: at least {goal:.2})\n", against.join(" and ")),
    }
}
