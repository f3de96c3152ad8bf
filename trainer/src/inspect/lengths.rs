//! Lengths in a line: smallest, quantiles, largest. Pure.

/// `5 to 90, median 31, 95 % up to 62 (mean 33.1)`.
pub(super) fn line(mut lengths: Vec<usize>) -> String {
    lengths.sort_unstable();
    let (Some(smallest), Some(largest)) = (lengths.first(), lengths.last()) else { return "none".to_owned() };
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
    let [median, high] = [50, 95].map(|percent| lengths[(lengths.len() * percent).div_ceil(100).max(1) - 1]);
    format!("{smallest} to {largest}, median {median}, 95 % up to {high} (mean {mean:.1})")
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn quantiles_are_values_that_occur() {
        for (lengths, expected) in [
            (vec![], "none"),
            (vec![4], "4 to 4, median 4, 95 % up to 4 (mean 4.0)"),
            (vec![9, 1], "1 to 9, median 1, 95 % up to 9 (mean 5.0)"),
            ((1..=100).rev().collect(), "1 to 100, median 50, 95 % up to 95 (mean 50.5)"),
        ] {
            assert_eq!(line(lengths), expected);
        }
    }
}
