//! What a restore refuses, and what its failures say.
