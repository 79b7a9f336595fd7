"""Files of any format -> `Raw`: tables of cells and genes, and a matrix when it is asked for.

Comes in: a path and `ReadOptions`. Goes out: `Raw`, in which nothing has a meaning yet.
May import: errors; numpy, scipy, pandas, anndata, h5py, zarr. Pickles are never opened.
To add a format: one function `(path, options) -> Raw` in a module here, and its sign in `read.py`.

    read.py           tells the format by content          raw.py     `Raw`, and the one refusal of broken files
    anndata_file.py   .h5ad, .h5 of STATE, .zarr, .h5mu    tenx.py     10x .h5 and folders of matrix.mtx
    text.py           .csv, .tsv, .txt                     obs_table.py   columns of cells beside a matrix
    hdf5_heap.py      a hole that libhdf5 would hang on
"""
