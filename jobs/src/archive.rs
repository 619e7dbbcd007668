//! The archive: a dump, compressed and hashed on its way to the store, verified on its way back.
