//! The accept rule of Jacobi decoding.

/// Number of predictions that are certain, at least one.
///
/// `inputs[0]` is known and `inputs[1..]` are guesses; `predictions[i]` is the model's pick after `inputs[..=i]`. A prediction is what
/// autoregressive decoding gives if all inputs up to it are: it is certain as long as each guess before it was predicted too.
pub(super) fn accepted_len(inputs: &[u32], predictions: &[u32]) -> usize {
    1 + inputs[1..].iter().zip(predictions).take_while(|(guess, prediction)| guess == prediction).count()
}

#[cfg(test)]
mod tests {
    use super::accepted_len;

    #[test]
    fn predictions_count_as_long_as_the_guesses_before_them_were_right() {
        for (inputs, predictions, expected) in [
            (&[7][..], &[8][..], 1),
            (&[7, 8], &[9, 9], 1),
            (&[7, 8], &[8, 9], 2),
            (&[7, 8, 9], &[8, 1, 2], 2),
            (&[7, 8, 9], &[8, 9, 2], 3),
            // A right guess after a wrong one proves nothing.
            (&[7, 1, 9, 10], &[8, 9, 10, 11], 1),
            (&[7, 7, 7, 7], &[7, 7, 7, 7], 4),
            // A guess that equals the prediction one place further is no match.
            (&[7, 9, 8], &[8, 9, 8], 1),
        ] {
            assert_eq!(accepted_len(inputs, predictions), expected, "{inputs:?} against {predictions:?}");
        }
    }
}
