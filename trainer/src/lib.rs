//! The trainer: `init`, `adapt`, `collect`, `train` and `evaluate`, each a stage that runs to its end, survives being killed, and
//! says how far it is; and `report`, which reads what `evaluate` has written. It must not know of Kubernetes but for the termination message and the completion index.

pub mod adapt;
mod adapter_folder;
pub mod arguments;
mod background;
pub mod best;
pub mod collect;
pub mod consistency;
pub mod data;
mod data_order;
pub mod distributed;
pub mod divergence;
pub mod evaluate;
pub mod failure;
pub mod fine_tune;
pub mod history;
pub mod init;
pub mod inspect;
pub mod memory;
pub mod method;
pub mod model_folder;
mod optimizer;
mod parallel;
pub mod progress;
mod record;
mod remote;
mod run;
mod run_loop;
mod run_output;
mod run_state;
mod storage;
pub mod trajectories;

pub use run::run;
