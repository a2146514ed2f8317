//! What the tests of the core run on beside the fake.

pub(crate) mod alloc;
