//! Which wrong states of a block are learnt from: those of its trajectory, or made-up ones. Pure but for the random numbers given.

use rand::Rng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

use crate::trajectories::TrajectoryExample;

/// Where states come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[value(rename_all = "PascalCase")]
pub enum States {
    /// From the collected trajectories.
    #[value(alias = "Trajectory")]
    Trajectories,
    /// Corrupted fixed points.
    Noise,
    /// Examples take turns between the two.
    Mixed,
}

/// Which state of a trajectory, or how noisy a made-up one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[value(rename_all = "PascalCase")]
pub enum NoiseSchedule {
    /// Noise rises from block to block and visit to visit, over and over, so that every batch holds all degrees of it.
    Progressive,
    /// Noise rises once, from a little in the first step to all of a block in the last.
    Linear,
    /// Any degree at any time.
    Random,
}

/// What teaches a wrong state (arXiv 2403.00835, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[value(rename_all = "PascalCase")]
pub enum Consistency {
    /// The fixed point.
    Global,
    /// The state after it in its trajectory.
    Local,
    /// Nothing: no state is learnt from, cross-entropy is the whole loss. The control of a claim that quality was kept.
    None,
}

/// Degrees of noise of the progressive schedule.
const DEGREES: u64 = 8;
/// How far a made-up state is shifted, at most.
const LONGEST_SHIFT: usize = 3;

/// A wrong state of a block: `tokens[i]` stands where the generation has its token `position + i`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoisyState {
    /// Index among the generated tokens.
    pub position: usize,
    /// As long as the block.
    pub tokens: Vec<u32>,
    /// The state that teaches it, of the same block; none where the fixed point does.
    pub teacher: Option<Vec<u32>>,
}

/// How states are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// Where they come from.
    pub states: States,
    /// How noisy they are.
    pub schedule: NoiseSchedule,
    /// What teaches recorded ones; made-up ones have no next state.
    pub consistency: Consistency,
    /// Tokens of a made-up block.
    pub block_size: usize,
    /// Examples that the run visits, repeated ones included.
    pub visits: u64,
}

impl Choice {
    /// The states to learn from when an example is visited; at most one a block, none without a teacher. `visit` counts the examples of
    /// the run.
    pub(super) fn choose(&self, example: &TrajectoryExample, visit: u64, random: &mut ChaCha8Rng) -> Vec<NoisyState> {
        if self.consistency == Consistency::None {
            return Vec::new();
        }
        if self.is_recorded(visit) {
            self.recorded(example, visit, random)
        } else {
            self.corrupted(example, visit, random)
        }
    }

    /// Whether the states of a visit come from a trajectory.
    pub(super) fn is_recorded(&self, visit: u64) -> bool {
        match self.states {
            States::Trajectories => true,
            States::Noise => false,
            States::Mixed => visit.is_multiple_of(2),
        }
    }

    /// The share of a block that should be noise, 0 to 1: of block number `index` when an example is visited.
    fn degree(&self, visit: u64, index: usize, random: &mut ChaCha8Rng) -> f64 {
        match self.schedule {
            NoiseSchedule::Progressive => ((visit + index as u64) % DEGREES + 1) as f64 / DEGREES as f64,
            NoiseSchedule::Linear => (visit + 1) as f64 / self.visits.max(1) as f64,
            NoiseSchedule::Random => random.random_range(0.0..=1.0),
        }
    }

    fn recorded(&self, example: &TrajectoryExample, visit: u64, random: &mut ChaCha8Rng) -> Vec<NoisyState> {
        let mut chosen = Vec::new();
        for (index, block) in example.blocks.iter().enumerate() {
            let Some((fixed_point, wrong)) = block.states.split_last() else { continue };
            let place = match self.schedule {
                NoiseSchedule::Random => (0..wrong.len()).choose(random),
                NoiseSchedule::Progressive | NoiseSchedule::Linear => {
                    let degree = self.degree(visit, index, random);
                    let distance = |place: &usize| (noise_ratio(&wrong[*place], fixed_point) - degree).abs();
                    (0..wrong.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
                }
            };
            chosen.extend(place.map(|place| NoisyState {
                position: block.position,
                tokens: wrong[place].clone(),
                teacher: self.teacher(wrong, place),
            }));
        }
        chosen
    }

    /// The last wrong state is followed by the fixed point.
    fn teacher(&self, wrong: &[Vec<u32>], place: usize) -> Option<Vec<u32>> {
        match self.consistency {
            Consistency::Global | Consistency::None => None,
            Consistency::Local => wrong.get(place + 1).cloned(),
        }
    }

    fn corrupted(&self, example: &TrajectoryExample, visit: u64, random: &mut ChaCha8Rng) -> Vec<NoisyState> {
        let generated = &example.tokens[example.prompt_len..];
        let mut start = 0;
        let mut end = random.random_range(1..=self.block_size).min(generated.len());
        let mut chosen = Vec::new();
        while start < generated.len() {
            let right = (end - start) as f64 * (1.0 - self.degree(visit, chosen.len(), random));
            let tokens = corrupt(example, start..end, right as usize, random);
            chosen.push(NoisyState { position: start, tokens, teacher: None });
            (start, end) = (end, (end + self.block_size).min(generated.len()));
        }
        chosen
    }
}

/// The share of a state from its first wrong token on.
fn noise_ratio(state: &[u32], fixed_point: &[u32]) -> f64 {
    let right = state.iter().zip(fixed_point).take_while(|(a, b)| a == b).count();
    (fixed_point.len() - right) as f64 / fixed_point.len().max(1) as f64
}

/// A block of the generation whose tokens after the first `right` ones are what decoding meets there: the last known token again,
/// the text shifted by a few places, or tokens from elsewhere in the text, with right ones between them.
fn corrupt(
    example: &TrajectoryExample,
    block: std::ops::Range<usize>,
    right: usize,
    random: &mut ChaCha8Rng,
) -> Vec<u32> {
    let generated = &example.tokens[example.prompt_len..];
    let mut tokens = generated[block.clone()].to_vec();
    // prompts have at least one token, so there is one before the first wrong place
    let last_known = example.tokens[example.prompt_len + block.start + right - 1];
    let kind = random.random_range(0..4);
    let shift = random.random_range(1..=LONGEST_SHIFT);
    for (index, token) in tokens.iter_mut().enumerate().skip(right) {
        let place = example.prompt_len + block.start + index;
        *token = match kind {
            0 => last_known,
            1 => example.tokens[(place + shift).min(example.tokens.len() - 1)],
            2 => example.tokens[place.saturating_sub(shift)],
            _ if random.random_bool(0.5) => example.tokens[random.random_range(0..example.tokens.len())],
            _ => *token,
        };
    }
    tokens
}

#[cfg(test)]
mod tests {
    use cllm_engine::JacobiTrajectory;
    use rand::SeedableRng;

    use super::*;

    fn example() -> TrajectoryExample {
        let states = |states: &[&[u32]]| states.iter().map(|state| state.to_vec()).collect();
        TrajectoryExample {
            index: 0,
            tokens: vec![50, 51, 1, 2, 3, 4, 5, 0],
            prompt_len: 2,
            blocks: vec![
                JacobiTrajectory {
                    position: 0,
                    states: states(&[&[9, 9, 9, 9], &[1, 9, 9, 9], &[1, 2, 3, 9], &[1, 2, 3, 4]]),
                },
                JacobiTrajectory { position: 4, states: states(&[&[5, 0]]) },
            ],
        }
    }

    #[test]
    fn noise_is_the_share_after_the_first_wrong_token() {
        for (state, expected) in [([1, 2, 3, 4], 0.0), ([9, 2, 3, 4], 1.0), ([1, 2, 9, 4], 0.5)] {
            assert!((noise_ratio(&state, &[1, 2, 3, 4]) - expected).abs() < 1e-12);
        }
    }

    fn choice(states: States, schedule: NoiseSchedule, consistency: Consistency) -> Choice {
        Choice { states, schedule, consistency, block_size: 4, visits: 16 }
    }

    #[test]
    fn recorded_states_follow_the_schedule() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let [little, half, all] = [[1, 2, 3, 9], [1, 9, 9, 9], [9, 9, 9, 9]];
        for (schedule, visits) in [
            (NoiseSchedule::Progressive, [(0, little), (5, half), (7, all), (8, little)]),
            (NoiseSchedule::Linear, [(0, little), (6, little), (11, half), (15, all)]),
        ] {
            let choice = choice(States::Trajectories, schedule, Consistency::Global);
            for (visit, expected) in visits {
                assert_eq!(
                    choice.choose(&example(), visit, &mut random),
                    [NoisyState { position: 0, tokens: expected.to_vec(), teacher: None }],
                    "{schedule:?} at {visit}; a block right from the start has nothing to learn"
                );
            }
        }
    }

    #[test]
    fn with_local_consistency_a_state_learns_from_the_next_one() {
        let choice = choice(States::Trajectories, NoiseSchedule::Progressive, Consistency::Local);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (visit, expected) in [(0, None), (5, Some([1, 2, 3, 9])), (7, Some([1, 9, 9, 9]))] {
            let chosen = choice.choose(&example(), visit, &mut random);
            let teachers: Vec<_> = chosen.iter().map(|state| state.teacher.as_deref()).collect();
            assert_eq!(teachers, [expected.as_ref().map(|teacher| &teacher[..])], "at {visit}");
        }
    }

    #[test]
    fn without_a_teacher_there_is_no_state() {
        for states in [States::Trajectories, States::Noise, States::Mixed] {
            let choice = choice(states, NoiseSchedule::Random, Consistency::None);
            for visit in 0..16 {
                let mut random = ChaCha8Rng::seed_from_u64(visit);
                assert!(choice.choose(&example(), visit, &mut random).is_empty(), "{states:?} at {visit}");
            }
        }
    }

    #[test]
    fn made_up_states_cover_the_generation_and_begin_right() {
        let choice = choice(States::Noise, NoiseSchedule::Random, Consistency::Global);
        let example = example();
        for seed in 0..200 {
            let chosen = choice.choose(&example, seed, &mut ChaCha8Rng::seed_from_u64(seed));
            let mut end = 0;
            for state in &chosen {
                assert_eq!(state.position, end);
                end += state.tokens.len();
                assert!(state.tokens.len() <= 4);
                assert!(state.tokens.iter().all(|token| example.tokens.contains(token)));
            }
            assert_eq!(end, 6);
        }
    }
}
