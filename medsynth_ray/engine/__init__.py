"""The only importer of ray: plan, searcher, tune, store, ledger."""
