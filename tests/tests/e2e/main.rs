//! What the resources promise, on clusters that are broken on purpose. `make e2e` runs it; each test takes minutes.

mod chart;
mod failures;
mod load;
mod operator;
mod scenario;
mod serving;
mod storage;
mod training;
