"""Tables of points as people have them: names, delimiters, comments, counts; and which columns are taken."""

import sys
import warnings

import numpy as np
import pytest

from geomsink.shapes import FileWarning, read, sample

TWO = [[1.5, 2, 3], [4, 5.5, 6]]
RIGHT = {
    "z,y,x.csv": "z,y,x\n3,2,1.5\n6,5.5,4\n",
    "colours.csv": "r,X,Y,Z\n9,1.5,2,3\n9,4,5.5,6\n",
    "paraview.csv": '"RGB","Points:0","Points:1","Points:2"\n9,1.5,2,3\n9,4,5.5,6\n',
    "text.csv": "name,x,y,z,colour\ntree,1.5,2,3,#ff0000\nhouse,4,5.5,6,\n",
    "pandas.csv": ",x,y,z\n0,1.5,2,3\n1,4,5.5,6\n",
    "numbers.csv": "0,1,2\n1.5,2.0,3.0\n4.0,5.5,6.0\n",
    "semicolons.csv": "x;y;z\n1.5;2;3\n4;5.5;6\n",
    "quotes.csv": '"x";"y";"z"\n"1.5";"2";"3"\n"4";"5.5";"6"\n',
    "trailing.csv": "1.5,2,3,\n4,5.5,6,\n",
    "trailing-names.csv": "x,y,z,\n1.5,2,3,\n4,5.5,6,\n",
    "commas.xyz": "1.5,2,3\n4,5.5,6\n",
    "tabs.txt": "Point ID\tX\tY\tZ\nA 1\t1.5\t2\t3\nA 2\t4\t5.5\t6\n",
    "tabs.tsv": "1.5\t2\t3\n4\t5.5\t6\n",
    "blanks.asc": "  1.5   2\t3  \n\n4 5.5 6 # second\n",
    "cloudcompare.asc": "//X Y Z R G B\n1.5 2 3 255 0 0\n4 5.5 6 0 0 1\n",
    "savetxt.xyz": "# z y x\n3 2 1.5\n6 5.5 4\n",
    "slashes.xyz": "// by hand\n1.5 2 3 // first\n4 5.5 6\n",
    "count.pts": "2\n1.5 2 3\n4 5.5 6\n",
    "count-names.txt": "//X Y Z I\n2\n1.5 2 3 9\n4 5.5 6 9\n",
    "mac.csv": "x,y,z\r1.5,2,3\r4,5.5,6\r",
    "mark.xyz": "\ufeff1.5 2 3\n4 5.5 6\n",
    "r.csv": '"x","y","z"\n"1",1.5,2,3\n"2",4,5.5,6\n',
    "latin.csv": "x,y,z\n# caf\udce9\n1.5,2,3\n4,5.5,6\n",
}


def save(path, text):
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    return path


@pytest.fixture(autouse=True)
def _nothing_is_said(request):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FileWarning)
        yield


@pytest.mark.parametrize("name", RIGHT)
def test_tables_are_read_right_and_nothing_needs_to_be_said(name, tmp_path):
    points = read(save(tmp_path / name, RIGHT[name]))
    assert points.tolist() == TWO and points.dtype == np.float64


def test_text_of_windows_is_read(tmp_path):
    (tmp_path / "a.txt").write_bytes("x\ty\tz\r\n1.5\t2\t3\r\n4\t5.5\t6\r\n".encode("utf-16"))
    assert read(tmp_path / "a.txt").tolist() == TWO


GUESSED = {
    "rgb.xyz": ("1.5 2 3 255 0 0\n4 5.5 6 0 0 1\n", "it has 6 columns without names; the first three were taken"),
    "others.csv": ("lon,lat,height\n1.5,2,3\n4,5.5,6\n",
                   "it has columns lon, lat, height, none of them x and y; all 3 were taken"),
    "index.csv": (",0,1,2\n0,1.5,2,3\n1,4,5.5,6\n",
                  "it has 4 columns without names; the first counts the rows and was left out; all others were taken"),
    "counted.xyz": ("0 1.5 2 3\n1 4 5.5 6\n",
                    "it has 4 columns without names; the first counts the rows and was left out; all others were"),
    "counted.csv": ("id,a,b,c,d\n1,1.5,2,3,9\n2,4,5.5,6,9\n", "counts the rows and was left out; the next three"),
}  # fmt: skip


@pytest.mark.parametrize("name", GUESSED)
def test_what_had_to_be_guessed_is_said_in_one_sentence(name, tmp_path):
    text, said = GUESSED[name]
    path = save(tmp_path / name, text)
    with pytest.warns(FileWarning) as caught:
        assert read(path).tolist() == TWO
    (warning,) = caught
    message = str(warning.message)
    assert message.startswith(f"{path}: ") and said in message
    assert message.endswith("as coordinates, columns= (--columns) chooses.") and warning.filename == __file__


def test_arrays_of_scanners_and_of_features(tmp_path):
    rng = np.random.default_rng(0)
    for width, taken in ((2, 2), (3, 3), (4, 3), (7, 3), (10, 3), (11, 11), (50, 50)):
        array = rng.random((9, width))
        np.save(tmp_path / "a.npy", array)
        np.savez(tmp_path / "a.npz", cloud=array)
        np.savez(tmp_path / "points.npz", points=array)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for name in ("a.npy", "a.npz"):
                np.testing.assert_array_equal(read(tmp_path / name), array[:, :taken])
        said = {3: "the first three were taken", 11: "all 11 were taken", 50: "all 50 were taken"}.get(taken, "")
        assert len(caught) == (2 if width > 3 else 0) and all(said in str(w.message) for w in caught)
        np.testing.assert_array_equal(read(tmp_path / "points.npz"), array)
        if width > 3:
            np.testing.assert_array_equal(read(tmp_path / "a.npy", columns=range(width)), array)
            np.testing.assert_array_equal(read(tmp_path / "points.npz", columns=[3, 0]), array[:, [3, 0]])


def test_records_and_separate_arrays(tmp_path):
    records = np.array([(3, 2, 1.5, 9), (6, 5.5, 4, 9)], dtype=[("z", "f4"), ("y", "f4"), ("x", "f4"), ("i", "u1")])
    np.save(tmp_path / "a.npy", records)
    assert read(tmp_path / "a.npy").tolist() == TWO and read(tmp_path / "a.npy", columns="i").tolist() == [[9], [9]]
    x, y, z = np.array(TWO).T
    np.savez(tmp_path / "a.npz", z=z, x=x, y=y, other=np.zeros(5))
    assert read(tmp_path / "a.npz").tolist() == TWO
    np.savez(tmp_path / "a.npz", z=z, x=x, y=y[:1])
    with pytest.raises(ValueError, match=r"its arrays x, y, z have the shapes \[\(2,\), \(1,\), \(2,\)\]"):
        read(tmp_path / "a.npz")


def test_fields_are_not_rounded(tmp_path):
    large, fields = np.array([1, 2**53 + 1]), np.array([0.5, 1])
    said = ": x: found whole numbers up to 9007199254740992, expected none beyond 2\\^53\\.$"
    np.savez(tmp_path / "a.npz", x=large, y=fields)
    with pytest.raises(ValueError, match=rf"a\.npz{said}"):
        read(tmp_path / "a.npz")
    assert read(tmp_path / "a.npz", columns="y").tolist() == [[0.5], [1]]
    for kind in ("i8", "<u8", ">i8"):
        records = np.empty(2, dtype=[("x", kind), ("y", "f8")])
        records["x"], records["y"] = large, fields
        np.save(tmp_path / "a.npy", records)
        with pytest.raises(ValueError, match=rf"a\.npy{said}"):
            read(tmp_path / "a.npy")
        records["x"][1] = 2**53
        np.save(tmp_path / "a.npy", records)
        assert read(tmp_path / "a.npy").tolist() == [[1, 0.5], [2**53, 1]]
    np.save(tmp_path / "a.npy", np.zeros(2, dtype=[("xyz", "f8", 3), ("name", "U5")]))
    for columns in (None, [0]):
        with pytest.raises(
            ValueError, match=r"a\.npy: found records of xyz of .*, name of <U5, expected fields of single"
        ):
            read(tmp_path / "a.npy", columns=columns)


def test_columns_choose_by_name_and_number(tmp_path):
    path = save(tmp_path / "a.csv", "label,x,y,z,nx\ntree,1.5,2,3,7\nhouse,4,5.5,6,8\n")
    assert read(path, columns=["nx", "X"]).tolist() == [[7, 1.5], [8, 4]]
    assert read(path, columns=[1, "3"]).tolist() == [[1.5, 3], [4, 6]]
    drawn = sample(path, 2, columns=["x", "y"])
    assert sorted(drawn.tolist()) == [[1.5, 2], [4, 5.5]]
    atoms = save(tmp_path / "a.xyz", "2\nwater, as x y z\nO 1.5 2 3\nH 4 5.5 6\n")
    with pytest.raises(ValueError, match="line 3: found 4 columns under 5 names"):
        read(atoms)
    for columns, found in (
        (["label"], "line 2: found 'tree', expected a number"),
        (["w"], "a.csv: columns: found 'w', expected numbers from 0 to 4, or names among label, x, y, z, nx"),
        ([5], "columns: found 5, expected numbers from 0 to 4"),
        ([-1], "columns: found -1, expected"),
        ([], "columns: found .*, expected one column at least, each once"),
        ([1, "x"], "columns: found .*, expected one column at least, each once"),
        ([1.5], "columns: found 1.5, expected numbers"),
    ):
        with pytest.raises(ValueError, match=found):
            read(path, columns=columns)
    fortran = save(tmp_path / "a.csv", "1.0D0,-2.0D0,+.3D1\n4,5,6\n")
    with pytest.raises(ValueError, match="line 1: found '1.0D0', expected a number"):
        read(fortran, columns=[0, 1, 2])


REFUSED = {
    "word.csv": ("x,y,z\n1,2,3\n1,one,3\n", "line 3: found 'one', expected a number"),
    "short.csv": ("1,2,3\n1,2\n", "line 2: found 2 columns, expected 3"),
    "long.xyz": ("1 2 3\n1 2 3 4\n", "line 2: found 4 columns, expected 3"),
    "more.pts": ("2\n1 2 3\n4 5 6\n7 8 9\n", "it has 3 points where 2 are announced"),
    "fewer.pts": ("4\n1 2 3\n4 5 6\n7 8 9\n", "it has 3 points where 4 are announced"),
    "decimal.csv": ("1,5;2,5\n1,5;2,5\n", "line 1: found '1,5', expected a number"),
    "first.csv": ("# by hand\n1.O,-2.O,.3O,\n4,5,6,\n", "line 2: found '1.O', expected a number"),
    "underline.xyz": ("1_0 2 3\n", "line 1: found '1_0', expected a number"),
    "quote.csv": ('"1,2,3\n4,5,6\n', "unexpected end of data"),
    "grid.asc": ("ncols 4\nnrows 2\n1 2 3 4\n", "line 1: found 'ncols', expected a number"),
    "names.csv": ("a,b\n1,2,3\n4,5,6\n", "line 2: found 3 columns under 2 names"),
    "empty.csv": ("x,y,z\n1,2,3\n4,,6\n", r"found \[4.0, nan, 6.0\] as point 1, expected finite"),
    "huge.xyz": ("1 2 3\n1 1e999 3\n", r"found \[1.0, inf, 3.0\] as point 1, expected finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_with_its_line(name, tmp_path):
    text, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        read(save(tmp_path / name, text))
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["x,y,z\n1.5,2,3\n,,\nnan,nan,nan\nNA,1,1\n4,5.5,6\n", ",,\n1.5,2,3\n4,5.5,6\n", "1.5 2 3\n-nan 0 0\n4 5.5 6\n"],
)
def test_points_that_are_not_finite_are_left_out_where_that_is_asked_for(text, tmp_path):
    path = save(tmp_path / "a.csv", text)
    with pytest.warns(FileWarning, match=r"[13] of [35] points are not finite and were left out\.$"):
        assert read(path, drop_invalid=True).tolist() == TWO
    with pytest.raises(ValueError, match="as point [01], expected finite coordinates"):
        read(path)


INVALID = {
    "table.xyz": "0.5 0.6 0.7\n0.5 0.6 {}\n",
    "table.csv": "x,y,z\n0.5,0.6,0.7\n0.5,{},0.7 # lost\n",
    "first.csv": "{0},{0},{0}\n0.5,0.6,0.7\n",
    "mesh.obj": "v 0.5 0.6 0.7 # kept\nv 0.5 0.6 {}# lost\n",
    "mesh.off": "OFF\n2 0 0\n0.5 0.6 0.7\n0.5 0.6 {} # lost\n",
    "mesh.stl": "solid\nfacet normal 0 0 1\nouter loop\nvertex 0.5 0.6 0.7\nvertex 0.5 0.6 0.7\n"
                 "vertex 0.5 {} 0.7 # lost\nendloop\nendfacet\nendsolid\n",
    "mesh.ply": "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
                 "end_header\n0.5 0.6 0.7\n0.5 0.6 {}\n",
    "scan.pcd": "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 2\nHEIGHT 1\nPOINTS 2\n"
                 "DATA ascii\n0.5 0.6 0.7\n0.5 {} 0.7\n",
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
def test_what_windows_writes_for_nan_and_infinity_is_not_finite(name, tmp_path):
    """As its C library did until 2015, padded, rounded and with exponents, and as it does since."""
    for group, suffix in (("plyfile", ".ply"), ("pypcd4", ".pcd")):
        if name.endswith(suffix):
            pytest.importorskip(group)
    text = INVALID[name]
    for word, value in (("1.#QNAN", "nan"), ("-1.#IND00", "nan"), ("1.#INF00e+000", "inf"), ("-1.#INF", "-inf"),
                        ("1.#R", "nan"), ("-nan(ind)", "nan")):  # fmt: skip
        path = save(tmp_path / name, text.format(word))
        with pytest.raises(ValueError, match=rf"found \[.*{value}.*\] as point [01], expected finite coordinates"):
            read(path)
        with pytest.warns(FileWarning, match="1 of 2 points are not finite"):
            np.testing.assert_allclose(read(path, drop_invalid=True), [[0.5, 0.6, 0.7]], rtol=1e-7)


def test_hashes_within_numbers_are_no_comments(tmp_path):
    assert read(save(tmp_path / "a.xyz", "1.5 2 3.# third\n4 5.5 6.#\n")).tolist() == TWO
    with pytest.raises(ValueError, match="line 2: found '3.#WHAT', expected a number"):
        read(save(tmp_path / "a.xyz", "1 2 3\n1 2 3.#WHAT\n"))


def test_standard_input_is_read_once(monkeypatch, tmp_path):
    class Input:
        def __init__(self, content):
            self.buffer = self
            self.content = [content]

        def read(self):
            return self.content.pop()

    np.save(tmp_path / "a.npy", np.array(TWO))
    for content in (b"x,y,z\n1.5,2,3\n4,5.5,6\n", (tmp_path / "a.npy").read_bytes(), b"OFF 2 0 0\n1.5 2 3\n4 5.5 6\n",
                    b"# by hand\nv 1.5 2 3\nv 4 5.5 6\n"):  # fmt: skip
        monkeypatch.setattr(sys, "stdin", Input(content))
        assert read("-").tolist() == read("-").tolist() == TWO
    monkeypatch.setattr(sys, "stdin", Input(b""))
    with pytest.raises(ValueError, match="^standard input: found an empty file"):
        read("-")
