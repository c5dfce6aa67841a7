-- The centres of the newest run, which lend their labels to the clusters of this one.
SELECT centers FROM cluster_fit_meta ORDER BY fitted_at DESC LIMIT 1
