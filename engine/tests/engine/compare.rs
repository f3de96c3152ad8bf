//! Ways that are compared take turns between forwards: what each of them does is what it does alone.

use std::num::NonZeroUsize;

use cllm_engine::compare::{Round, Way, decode_in_turns};
use cllm_engine::{InstructionSet, ModelConfig, Strategy as Decoding, Workspace};

use crate::support::{config, model};

#[test]
fn ways_that_take_turns_decode_as_if_each_were_alone() {
    let model = model(&ModelConfig { vocab_size: 12, ..config() }, 3, 1, InstructionSet::detect());
    let mut workspace = Workspace::new(&model);
    let jacobi = |rows, lookup| Decoding::Jacobi { block_size: NonZeroUsize::new(rows).unwrap(), lookup };
    let strategies = [Decoding::Autoregressive, jacobi(4, false), jacobi(8, true)];
    let prompts: [&[u32]; 3] = [&[1, 2, 3], &[4], &[5, 6, 7, 8, 9, 10, 1, 2]];
    let mut decode = |strategies: &[Decoding], at_once, turn| {
        let mut ways: Vec<Way> = strategies.iter().copied().map(Way::from).collect();
        let ways = decode_in_turns(
            &model,
            &mut workspace,
            &mut ways,
            Round { prompts: &prompts, at_once, max_new_tokens: 60, turn },
        )
        .unwrap();
        ways.into_iter()
            .map(|generations| {
                let counted = |generation: cllm_engine::Generation| {
                    assert!(generation.statistics.prefill_seconds > 0.0 && generation.statistics.decode_seconds > 0.0);
                    (generation.tokens, generation.finish_reason, generation.statistics.decode_forwards)
                };
                generations.into_iter().map(counted).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    let alone: Vec<_> = strategies.iter().flat_map(|&strategy| decode(&[strategy], 3, 0)).collect();
    assert!(alone.iter().flatten().all(|(tokens, ..)| !tokens.is_empty()));
    for turn in 0..4 {
        for at_once in 1..=4 {
            assert_eq!(decode(&strategies, at_once, turn), alone, "{at_once} at once, turn {turn}");
        }
    }
}
