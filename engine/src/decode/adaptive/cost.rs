//! What a forward costs by its rows.

/// Weight of the newest measurement.
const RATE: f64 = 0.05;
/// A measurement that is off by more was disturbed.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.5..=2.0;

/// Seconds of a forward as a function of its rows and of the positions that they attend to; measured at the start, corrected online.
#[derive(Clone, Debug, PartialEq)]
pub struct CostCurve {
    /// Rows and seconds after a short context, ascending in both.
    points: Vec<Point>,
    /// Seconds for each position that a row attends to beyond the short context.
    seconds_per_position: f64,
    /// Measured over expected seconds, all sizes together: how busy the machine is.
    load: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    rows: f64,
    seconds: f64,
    /// Measured over expected seconds, beyond the load.
    correction: f64,
}

impl CostCurve {
    /// From measured pairs of rows and seconds, such as [`crate::forward_cost`] gives; none without any. Seconds of more rows are at
    /// least those of fewer.
    pub fn new(measured: &[(usize, f64)], seconds_per_position: f64) -> Option<Self> {
        let mut measured: Vec<_> = measured.iter().filter(|(rows, seconds)| *rows > 0 && *seconds > 0.0).collect();
        measured.sort_unstable_by_key(|(rows, _)| *rows);
        let mut points: Vec<Point> = Vec::with_capacity(measured.len());
        for &&(rows, seconds) in &measured {
            let floor = points.last().map_or(0.0, |point| point.seconds);
            points.push(Point { rows: rows as f64, seconds: seconds.max(floor), correction: 1.0 });
        }
        (!points.is_empty()).then_some(Self { points, seconds_per_position, load: 1.0 })
    }

    /// Expected seconds of a forward of `rows` rows that attend to `positions` positions in all.
    pub fn seconds(&self, rows: usize, positions: usize) -> f64 {
        self.at(rows as f64, |point| point.seconds * point.correction) + self.seconds_per_position * positions as f64
    }

    /// Takes a forward into account that was measured.
    pub fn correct(&mut self, rows: usize, positions: usize, seconds: f64) {
        let ratio = seconds / self.load / self.seconds(rows, positions);
        if !PLAUSIBLE.contains(&ratio) && !PLAUSIBLE.contains(&(ratio * self.load)) {
            return;
        }
        self.load *= 1.0 + RATE * (ratio - 1.0);
        let nearest = self.points.iter_mut().min_by(|a, b| distance(a, rows).total_cmp(&distance(b, rows)));
        if let Some(point) = nearest {
            point.correction = (point.correction * (1.0 + RATE * (ratio - 1.0))).clamp(0.5, 2.0);
        }
    }

    /// Between two points on the line between them, beyond the last on its continuation.
    fn at(&self, rows: f64, value: impl Fn(&Point) -> f64) -> f64 {
        let after = self.points.partition_point(|point| point.rows < rows).clamp(1, self.points.len().max(2) - 1);
        let [Some(a), Some(b)] = [after - 1, after].map(|index| self.points.get(index)) else {
            return self.points.first().map_or(1.0, value);
        };
        let (low, high) = (value(a), value(b));
        (low + (rows - a.rows) / (b.rows - a.rows) * (high - low)).max(low.min(high) * 0.5)
    }
}

fn distance(point: &Point, rows: usize) -> f64 {
    (point.rows.ln() - (rows as f64).ln()).abs()
}
