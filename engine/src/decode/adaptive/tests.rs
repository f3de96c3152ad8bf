use super::pace::SHARED;
use super::{Basis, Candidate, CostCurve, Gains, Pace, SIZES, TextPace, Turn, Verdict, allot};

/// Uniform numbers, the same in every run.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A text of which we know everything: each guess is right with some probability, as long as the ones before it are.
#[derive(Clone, Copy, Debug)]
struct Text {
    /// Of the first guess.
    first: f64,
    /// Of each later one.
    later: f64,
}

impl Text {
    fn emitted(self, rows: usize, random: &mut Random) -> usize {
        let mut emitted = 1;
        while emitted < rows && random.unit() < if emitted == 1 { self.first } else { self.later } {
            emitted += 1;
        }
        emitted
    }

    fn expected(self, rows: usize) -> f64 {
        (1..rows).map(|k| self.first * self.later.powf(k as f64 - 1.0)).sum::<f64>() + 1.0
    }
}

fn curve(seconds: impl Fn(usize) -> f64) -> CostCurve {
    CostCurve::new(&SIZES.map(|rows| (rows, seconds(rows))), 0.0).unwrap()
}

fn turn(pace: &mut TextPace, basis: Basis) -> Turn<'_> {
    Turn { pace, basis, limit: 16, context: 100 }
}

/// What is asked of the policy: batches of equal texts, one after the other.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Texts at the same time.
    batch: usize,
    batches: usize,
    /// Of each batch.
    forwards: usize,
    /// Most rows of a forward.
    most_rows: usize,
}

/// Tokens per second of the policy over the best fixed size.
fn over_best_fixed(text: Text, seconds: &dyn Fn(usize) -> f64, load: Load, seed: u64) -> f64 {
    let mut random = Random(seed);
    let measured: Vec<_> = SIZES.iter().chain(&SHARED).map(|&rows| (rows, seconds(rows))).collect();
    let mut pace = Pace::new(CostCurve::new(&measured, 0.0).unwrap());
    let limit = (load.most_rows / load.batch).min(16);
    let (mut tokens, mut time) = (0.0, 0.0);
    for _ in 0..load.batches {
        let mut texts = vec![TextPace::default(); load.batch];
        for _ in 0..load.forwards {
            let mut turns: Vec<_> =
                texts.iter_mut().map(|pace| Turn { limit, ..turn(pace, Basis::Prediction) }).collect();
            let rows = pace.rows(&mut turns);
            for (own, &rows) in texts.iter_mut().zip(&rows) {
                let emitted = text.emitted(rows, &mut random);
                // what the choice is worth, not what luck made of it
                tokens += text.expected(rows);
                pace.emitted(own, rows, emitted);
            }
            let total: usize = rows.iter().sum();
            time += seconds(total);
            pace.took(total, 0, seconds(total) * (0.9 + 0.2 * random.unit()));
        }
    }
    let fixed = SIZES.iter().filter(|&&rows| rows <= limit);
    let worth = |rows: usize| load.batch as f64 * text.expected(rows) / seconds(load.batch * rows);
    tokens / time / fixed.map(|&rows| worth(rows)).fold(0.0, f64::max)
}

#[test]
fn the_policy_loses_little_against_the_best_fixed_size() {
    let flat = |_: usize| 1.0;
    let linear = |rows: usize| rows as f64;
    let memory_bound = |rows: usize| (rows as f64 / 9.0).max(1.0) + 0.02 * rows as f64;
    let overhead = |rows: usize| 1.0 + 0.3 * rows as f64;
    let curves: [&dyn Fn(usize) -> f64; 4] = [&flat, &linear, &memory_bound, &overhead];
    for text in [
        Text { first: 0.02, later: 0.02 },
        Text { first: 0.3, later: 0.2 },
        Text { first: 0.8, later: 0.8 },
        Text { first: 0.97, later: 0.95 },
    ] {
        for (batch, forwards) in [(1, 4000), (4, 2000), (16, 1000)] {
            let load = Load { batch, batches: 1, forwards, most_rows: 256 };
            let ratios: Vec<f64> =
                (0..3).flat_map(|seed| curves.map(|seconds| over_best_fixed(text, seconds, load, seed))).collect();
            let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
            assert!(mean > 0.98, "{text:?}, batch of {batch}: {mean}");
            assert!(ratios.iter().all(|ratio| *ratio > 0.95), "{text:?}, batch of {batch}: {ratios:?}");
        }
    }
}

/// Seconds of a forward by its rows, on straight lines between those that were measured.
fn between(points: &[(usize, f64)]) -> impl Fn(usize) -> f64 {
    move |rows| {
        let after = points.partition_point(|point| point.0 < rows).clamp(1, points.len() - 1);
        let ((fewer, low), (more, high)) = (points[after - 1], points[after]);
        low + (rows - fewer) as f64 / (more - fewer) as f64 * (high - low)
    }
}

/// A model that is no CLLM must not pay for what the policy does not know yet: not when its server has just started, not with answers of
/// a hundred tokens. The costs are those of SmolLM2-135M on two cores with AVX-512.
#[test]
fn short_answers_of_models_whose_guesses_are_seldom_right_lose_little() {
    let q4_1 = between(&[
        (1, 1.0),
        (2, 1.01),
        (3, 1.14),
        (4, 1.25),
        (5, 1.75),
        (8, 2.08),
        (9, 2.38),
        (12, 2.81),
        (16, 3.62),
        (24, 5.49),
        (32, 6.71),
        (40, 8.86),
        (48, 10.13),
        (64, 13.57),
    ]);
    let f32 = between(&[
        (1, 1.0),
        (2, 1.1),
        (8, 1.15),
        (9, 1.64),
        (16, 2.21),
        (17, 2.64),
        (24, 2.89),
        (32, 3.73),
        (64, 7.48),
    ]);
    for (first, later) in [(0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.5, 0.5)] {
        for batch in [1, 2, 4, 8, 16] {
            for (name, seconds) in [("Q4_1", &q4_1 as &dyn Fn(usize) -> f64), ("f32", &f32)] {
                let mean = |batches| {
                    let load = Load { batch, batches, forwards: 95, most_rows: 64 };
                    (0..8).map(|seed| over_best_fixed(Text { first, later }, seconds, load, seed)).sum::<f64>() / 8.0
                };
                let (at_start, later_on) = (mean(2), mean(16));
                assert!(at_start > 0.90, "{name}, {first}, batch of {batch}: {at_start}");
                assert!(later_on > 0.96, "{name}, {first}, batch of {batch}: {later_on}");
            }
        }
    }
}

#[test]
fn rows_go_to_the_texts_that_make_most_of_them() {
    let mut good = Gains::default();
    let mut bad = Gains::default();
    for _ in 0..50 {
        for rows in SIZES {
            good.record(rows, rows);
            bad.record(rows, 1);
        }
    }
    let nothing = Gains::default();
    let candidate = |gains, limit| Candidate { gains, typical: &nothing, limit, context: 0 };
    let cost = curve(|rows| 4.0 + rows as f64);
    let rows = allot(&cost, &[candidate(&bad, 16), candidate(&good, 16), candidate(&bad, 16)]);
    assert_eq!(rows, [1, 16, 1]);
    assert_eq!(allot(&cost, &[candidate(&good, 5)]), [4], "never more than the limit");
    assert_eq!(allot(&curve(|rows| rows.pow(2) as f64), &[candidate(&good, 16)]), [1]);
    assert!(allot(&cost, &[]).is_empty());
}

#[test]
fn costs_between_and_beyond_the_measured_sizes_lie_on_lines() {
    let cost = CostCurve::new(&[(8, 3.0), (1, 1.0), (4, 1.5), (0, 9.0)], 0.01).unwrap();
    for (rows, positions, expected) in
        [(1, 0, 1.0), (4, 0, 1.5), (2, 0, 1.0 + 0.5 / 3.0), (6, 0, 2.25), (16, 0, 6.0), (4, 100, 2.5)]
    {
        let found = cost.seconds(rows, positions);
        assert!((found - expected).abs() < 1e-9, "{rows} rows: {found} instead of {expected}");
    }
    assert_eq!(CostCurve::new(&[], 0.0), None);
    let single = CostCurve::new(&[(1, 2.0)], 0.0).unwrap();
    assert!(single.seconds(4, 0) >= 2.0);
    let noisy = CostCurve::new(&[(1, 2.0), (2, 1.9)], 0.0).unwrap();
    assert!(noisy.seconds(2, 0) >= 2.0, "more rows never cost less");
}

#[test]
fn a_size_that_turns_out_dearer_is_corrected_and_a_busy_machine_is_not_mistaken_for_it() {
    let mut cost = curve(|_| 1.0);
    for _ in 0..400 {
        cost.correct(8, 0, 1.5);
        cost.correct(1, 0, 1.0);
    }
    assert!(cost.seconds(8, 0) / cost.seconds(1, 0) > 1.3, "{} {}", cost.seconds(8, 0), cost.seconds(1, 0));
    let mut busy = curve(|rows| rows as f64);
    for _ in 0..400 {
        busy.correct(1, 0, 1.6);
        busy.correct(8, 0, 8.0 * 1.6);
        busy.correct(4, 0, 4.0 * 100.0);
    }
    let ratio = busy.seconds(8, 0) / busy.seconds(1, 0);
    assert!((ratio - 8.0).abs() < 0.8, "{ratio}");
}

#[test]
fn a_text_gets_rows_while_it_repeats_itself() {
    let mut pace = Pace::new(curve(|rows| 4.0 + rows as f64));
    let mut text = TextPace::default();
    for forward in 0..200 {
        let repeats = forward % 10 == 0;
        let basis = if repeats { Basis::LongMatch } else { Basis::Prediction };
        let rows = pace.rows(&mut [turn(&mut text, basis)])[0];
        pace.emitted(&mut text, rows, 1);
        if repeats {
            pace.judged(&mut text, Verdict { basis, right: 15 });
        }
        pace.judged(&mut text, Verdict { basis: Basis::ShortMatch, right: 0 });
    }
    let rows = |text: &mut TextPace, basis| pace.rows(&mut [turn(text, basis)])[0];
    assert_eq!(rows(&mut text, Basis::LongMatch), 16);
    assert_eq!(rows(&mut text, Basis::ShortMatch), 1);
    assert_eq!(rows(&mut TextPace::default(), Basis::LongMatch), 16, "what one text taught serves the next");
}
