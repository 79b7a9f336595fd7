"""The definitions of metrics, one family per file.

Comes in: `Case`, or `Comparison` where a suite compares cells. Goes out: `PerCondition`, a numerator and a denominator
per condition with status and reason. May import: numpy, scipy, types, errors, `eval.case`, `eval.comparison`.
To add one: a function here, a line in a panel. Where several files ask one question, each answers it by other choices:

    errors of means      error (ours, of deltas), profile_distance (PerturBench, and all that equal it), mean_profile
                         (scPerturBench: its genes, rounded), mean_error (papers), pseudobulk (cell-eval)
    correlations         correlation (ours), mean_correlation (papers), ranks (helper: two short vectors)
    genes of a suite     ranked_gene (scPerturBench: scanpy's order of ties), gene_set (papers: a tied place is none)
    rank tests           rank_test counts once; ranksum without ties (PerturBench), mann_whitney with (cell-eval)
    differential genes   differential makes the calls; de_* judge them
    retrieval            retrieval (ours), profile_rank (PerturBench), discrimination (cell-eval), centroid (Systema)
    distances of cells   pairs sums them once for distribution, half_energy, transport; divergence, marginal by gene
    uncertainty          uncertainty, interval_score, pit, crps_draws, ood
"""
