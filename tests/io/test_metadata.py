"""What a file says beside its pixels: carried to the result where it is still true of it."""

import hashlib
import io
import json
import shutil
import struct
import subprocess
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, IptcImagePlugin, JpegImagePlugin

from imgconv.io.metadata.notes import read_note
from tests import camera
from tests.running import here

FORMATS = ("jpg", "png", "webp")
exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="no exiftool")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(camera.jpeg())
    return tmp_path


def imgconv(*arguments, warning=""):
    done = here(*arguments)
    told = [line for line in done.stderr.splitlines(True) if "compiling loops" not in line]
    assert (done.returncode, "".join(told)) == (0, warning), done.stderr
    return done


def opened(path):
    with open(path, "rb") as file:
        image = Image.open(io.BytesIO(file.read()))
    image.load()
    return image


def exif_of(path):
    """(main, photo, GPS) directories as Pillow reads them."""
    exif = opened(path).getexif()
    return dict(exif), dict(exif.get_ifd(0x8769)), dict(exif.get_ifd(0x8825))


def block_of(path):
    return opened(path).info["exif"].removeprefix(b"Exif\0\0")


def with_chunks(path, chunks, pixels=None):
    """Write a PNG with chunks (kind, payload) before its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(camera.photo() if pixels is None else pixels).save(buffer, "PNG")
    content = buffer.getvalue()
    made = b"".join(
        struct.pack(">I", len(payload)) + kind + payload
        + struct.pack(">I", zlib.crc32(kind + payload))
        for kind, payload in chunks
    )  # fmt: skip
    with open(path, "wb") as file:
        file.write(content[:33] + made + content[33:])


def chunks_of(path):
    """(kind, payload) of a PNG's chunks but its pixels."""
    with open(path, "rb") as file:
        data, at, found = file.read(), 8, []
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind not in (b"IDAT", b"IHDR", b"IEND"):
            found.append((kind, data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("order", "<>")
def test_a_photo_keeps_its_exif_in_every_format_that_holds_it(folder, form, order):
    (folder / "photo.jpg").write_bytes(camera.jpeg(order=order))
    imgconv("apply", "-k", "gaussian:sigma=1", "photo.jpg", "-o", f"soft.{form}")
    main, photo, gps = exif_of(f"soft.{form}")
    before, photo_before, gps_before = exif_of("photo.jpg")
    # The photo lay on its side: it is upright now, and 64 wide.
    assert opened(f"soft.{form}").size == (64, 96)
    changed = {0x0112: 1, 0x8769: main[0x8769], 0x8825: main[0x8825]}
    assert main == before | changed
    del photo_before[0x9214]  # the subject's place, before the turn
    assert photo == photo_before | {0xA002: 64, 0xA003: 96}
    assert gps == gps_before
    assert main[0x8298] == "(c) Anna Beispiel"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("order", "<>")
def test_maker_notes_stay_where_their_offsets_count_from(folder, form, order):
    (folder / "photo.jpg").write_bytes(camera.jpeg(order=order))
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", f"soft.{form}")
    note, block = camera.maker_note(order), block_of(f"soft.{form}")
    assert block[camera.MAKER_NOTE_AT :].startswith(note)
    assert exif_of(f"soft.{form}")[1][0x927C] == note


@pytest.mark.parametrize("form", FORMATS)
def test_thumbnails_do_not_show_the_old_image(folder, form):
    imgconv("apply", "-k", "box:9", "photo.jpg", "-o", f"soft.{form}")
    small = camera.thumbnail(camera.photo())
    assert small in (folder / "photo.jpg").read_bytes()
    assert opened(f"soft.{form}").getexif().get_ifd(1) == {}
    block = block_of(f"soft.{form}")
    assert small[20:-2] not in block
    assert len(block) == len(camera.exif())  # nor is there a gap where it was
    content = (folder / f"soft.{form}").read_bytes()
    assert b"Thumbnails" not in content
    assert small not in content


def xmp_of(path):
    info = opened(path).info
    found = info.get("xmp") or info.get("XML:com.adobe.xmp")
    return found.decode() if isinstance(found, bytes) else found


@pytest.mark.parametrize("form", FORMATS)
def test_xmp_is_kept_to_the_byte_but_for_what_changed(folder, form):
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", f"soft.{form}")
    expected = camera.XMP.decode()
    start, stop = expected.index("<xmp:Thumbnails"), expected.index("</rdf:Description>")
    expected = expected[:start] + expected[stop:]
    for old, new in (
        ('tiff:Orientation="6"', 'tiff:Orientation="1"'),
        ("<e:PixelXDimension>96<", "<e:PixelXDimension>64<"),
        ("<e:PixelYDimension>64<", "<e:PixelYDimension>96<"),
    ):
        expected = expected.replace(old, new)
    assert xmp_of(f"soft.{form}") == expected


def test_iptc_comment_resolution_and_compression_of_a_jpeg_are_kept(folder):
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", "soft.jpg")
    before, after = opened("photo.jpg"), opened("soft.jpg")
    expected = {key: value if len(value) > 1 else value[0] for key, value in camera.IPTC.items()}
    assert IptcImagePlugin.getiptcinfo(after) == expected
    assert 0x040C not in after.info["photoshop"]  # another thumbnail
    assert after.info["comment"] == before.info["comment"] == camera.COMMENT.encode()
    assert after.info["dpi"] == (300, 300)
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before) == 1
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", "soft.png")
    [(_, profile)] = [one for one in chunks_of("soft.png") if one[0] == b"zTXt"
                      and one[1].startswith(b"Raw profile type iptc")]  # fmt: skip
    assert camera.iptc().hex() in zlib.decompress(profile[23:]).decode().replace("\n", "")
    # And from there back.
    imgconv("apply", "-k", "box:3", "soft.png", "-o", "again.jpg")
    assert IptcImagePlugin.getiptcinfo(opened("again.jpg")) == expected
    assert opened("again.jpg").info["comment"] == camera.COMMENT.encode()
    assert opened("again.jpg").info["dpi"] == (300, 300)


@pytest.mark.parametrize(("quality", "subsampling"), [(30, 2), (75, 0), (97, 1)])
def test_jpeg_quality_is_the_inputs_and_else_92(folder, quality, subsampling):
    Image.fromarray(camera.photo()).save("a.jpg", quality=quality, subsampling=subsampling)
    imgconv("apply", "-k", "identity", "a.jpg", "-o", "b.jpg")
    a, b = opened("a.jpg"), opened("b.jpg")
    assert a.quantization == b.quantization
    assert JpegImagePlugin.get_sampling(a) == JpegImagePlugin.get_sampling(b) == subsampling
    imgconv("apply", "-k", "identity", "a.jpg", "--gray", "-o", "gray.jpg")
    assert opened("gray.jpg").quantization == {0: a.quantization[0]}
    imgconv("apply", "-k", "identity", "a.jpg", "--quality", "61", "-o", "c.jpg")
    Image.fromarray(camera.photo()).save("by-pillow.jpg", quality=61)
    assert opened("c.jpg").quantization == opened("by-pillow.jpg").quantization
    Image.fromarray(camera.photo()).save("d.png")
    imgconv("apply", "-k", "identity", "d.png", "-o", "d.jpg")
    Image.fromarray(camera.photo()).save("by-pillow.jpg", quality=92)
    assert opened("d.jpg").quantization == opened("by-pillow.jpg").quantization


def test_sizes_and_resolution_follow_a_stride_and_a_pool(folder):
    for command in (
        ("apply", "-k", "box:3", "--stride", "1,2", "--pool", "max:2x1"),
        ("run", "conv box:3 stride=1,2 | maxpool 2x1"),
    ):
        imgconv(*command, "photo.jpg", "-o", "small.jpg", "--overwrite")
        small = opened("small.jpg")
        assert small.size == (32, 48)
        assert small.info["jfif_density"] == (150, 150)
        main, photo, _ = exif_of("small.jpg")
        assert (main[0x011A], main[0x011B], main[0x0128]) == (150, 150, 2)
        assert (photo[0xA002], photo[0xA003]) == (32, 48)
        imgconv(*command, "photo.jpg", "-o", "small.png", "--overwrite")
        assert dict(chunks_of("small.png"))[b"pHYs"] == struct.pack(">IIB", 5906, 5906, 1)


def test_a_gray_result_of_colors_is_not_said_to_be_in_their_space(folder):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (folder / "photo.jpg").write_bytes(camera.jpeg(icc_profile=profile))
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", "color.png")
    assert opened("color.png").info["icc_profile"] == profile
    assert exif_of("color.png")[1][0xA001] == 1
    for name, options in (
        ("gray.jpg", ["--gray"]), ("red.png", ["--channels", "r"]), ("raw.webp", ["--linear"]),
    ):  # fmt: skip
        imgconv("apply", "-k", "box:3", "photo.jpg", *options, "-o", name)
        assert "icc_profile" not in opened(name).info
        assert exif_of(name)[1][0xA001] == 0xFFFF
    imgconv("run", "gray | conv box:3", "photo.jpg", "-o", "chain.png")
    assert opened("chain.png").mode == "L"
    assert "icc_profile" not in opened("chain.png").info


COLORS = [
    (b"gAMA", struct.pack(">I", 45455)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
]
TEXTS = [
    (b"tEXt", b"Title\0A lake"), (b"tEXt", b"Author\0Anna B\xe9"), (b"tEXt", b"Author\0and Ben"),
    (b"iTXt", b"Description\0\0\0de\0Beschreibung\0Ein See \xe2\x80\x93 abends"),
    (b"zTXt", b"Copyright\0\0" + zlib.compress(b"(c) 2020")), (b"tEXt", b"Comment\0calm"),
]  # fmt: skip
PLAIN = [(b"pHYs", struct.pack(">IIB", 2835, 3937, 1)), (b"tIME", bytes((7, 228, 5, 6, 7, 8, 9)))]


@pytest.mark.parametrize("options", [[], ["--scale", "minmax"], ["--memory", "1M"]])
def test_a_png_keeps_its_chunks_in_bands_and_whole(folder, options):
    given = [*COLORS, *PLAIN, *TEXTS]
    with_chunks("a.png", given)
    imgconv("apply", "-k", "box:3", "a.png", "-o", "b.png", *options)
    found = chunks_of("b.png")
    assert [one for one in found if b"imgconv" not in one[1][:8]] == [
        *COLORS,
        PLAIN[1],
        PLAIN[0],
        *TEXTS,
    ]
    assert len(found) == len(given) + 1
    imgconv("apply", "-k", "box:3", "a.png", "--gray", "-o", "gray.png")
    assert not {b"gAMA", b"cHRM"} & dict(chunks_of("gray.png")).keys()


def test_texts_of_png_become_those_of_exif_that_mean_the_same(folder):
    with_chunks("a.png", [*PLAIN, *TEXTS])
    for form in ("jpg", "webp"):
        imgconv("apply", "-k", "box:3", "a.png", "-o", f"b.{form}")
        main, _, _ = exif_of(f"b.{form}")
        assert main[0x8298] == "(c) 2020"
        assert main[0x010D] == "A lake"
        assert main[0x010E].encode("latin-1").decode() == "Ein See – abends"
        assert main[0x013B].encode("latin-1").decode() == "Anna Bé"
    assert (float(main[0x011A]), float(main[0x011B]), main[0x0128]) == (28.35, 39.37, 3)
    assert opened("b.jpg").info["comment"] == b"calm"
    assert opened("b.jpg").info["jfif_density"] == (72, 100)
    imgconv("apply", "-k", "box:3", "a.png", "-o", "b.gif")
    assert opened("b.gif").info["comment"] == b"calm"
    imgconv("apply", "-k", "box:3", "a.png", "-o", "b.bmp")
    assert opened("b.bmp").info["dpi"] == pytest.approx((72, 100), abs=0.01)


def test_gif_keeps_comments_and_xmp(folder):
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", "a.gif")
    imgconv("apply", "-k", "box:3", "a.gif", "-o", "b.gif")
    for name in ("a.gif", "b.gif"):
        assert opened(name).info["comment"] == camera.COMMENT.encode()
        content = (folder / name).read_bytes()
        assert 'tiff:Orientation="1"' in content.decode("latin-1")
        assert content.count(b"<?xpacket end='w'?>\1\xff\xfe") == 1
        assert content.count(b"XMP DataXMP") == 1
        assert content.count(b"imgconv rec") == 1
    imgconv("apply", "-k", "box:3", "b.gif", "-o", "c.png")
    assert xmp_of("c.png") == xmp_of_gif(folder / "a.gif")


def xmp_of_gif(path):
    content = path.read_bytes()
    start = content.index(b"XMP DataXMP") + 11
    return content[start : content.index(b"\1\xff\xfe\xfd", start)].decode()


@pytest.mark.parametrize("form", [*FORMATS, "gif"])
def test_the_record_stands_beside_what_was_there_and_is_found(folder, form):
    imgconv("apply", "-k", "box:3", "photo.jpg", "-o", f"a.{form}")
    assert json.loads(read_note(f"a.{form}"))["input"]["name"] == "photo.jpg"
    assert here("repeat", f"a.{form}").stdout == f"a.{form}: the same bytes from photo.jpg\n"
    imgconv("apply", "-k", "box:3", f"a.{form}", "-o", f"b.{form}")
    assert json.loads(read_note(f"b.{form}"))["input"]["name"] == f"a.{form}"
    assert (folder / f"b.{form}").read_bytes().count(b'"record": 1') == 1
    if form != "gif":
        assert exif_of(f"b.{form}")[0][0x010E] == "A lake"
    imgconv("apply", "-k", "box:3", f"a.{form}", "--no-record", "-o", f"c.{form}")
    assert read_note(f"c.{form}") in ("", "A lake", camera.COMMENT.encode().decode("latin-1"))
    assert b'"record": 1' not in (folder / f"c.{form}").read_bytes()
    if form != "gif":
        assert exif_of(f"c.{form}")[0][0x8298] == "(c) Anna Beispiel"


@pytest.mark.parametrize("form", [*FORMATS, "gif"])
def test_no_metadata_drops_all(folder, form):
    imgconv("apply", "-k", "box:3", "photo.jpg", "--no-metadata", "-o", f"a.{form}")
    content = (folder / f"a.{form}").read_bytes()
    for text in (b"Anna", b"lake", b"xpacket", b"record", b"Exif", b"Z\xc3\xbcrich"):
        assert text not in content
    assert not opened(f"a.{form}").getexif()


@pytest.mark.parametrize("form", ["jpg", "webp", "gif"])
def test_records_where_the_first_version_put_them_are_found_and_not_carried(folder, form):
    record = {"imgconv": "0.1.0", "record": 1, "command": "apply",
              "options": {"kernel": ["box:3"], "format": {"jpg": "jpeg"}.get(form, form)},
              "input": {"name": "photo.jpg", "sha256": "0" * 64}}  # fmt: skip
    note = json.dumps(record)
    exif = Image.Exif()
    exif[0x010E] = note
    options = {"comment": note} if form == "gif" else {"exif": exif}
    Image.fromarray(camera.photo()).save(f"old.{form}", **options)
    assert read_note(f"old.{form}") == note
    imgconv("apply", "-k", "box:3", f"old.{form}", "--no-record", "-o", f"new.{form}")
    assert b"record" not in (folder / f"new.{form}").read_bytes()


def test_a_batch_of_workers_and_in_place_keep_what_one_command_keeps(folder):
    for number in range(13):
        (folder / f"{number}.jpg").write_bytes(camera.jpeg(camera.photo(64, 80 + number)))
    names = [f"{number}.jpg" for number in range(13)]
    imgconv("apply", "-k", "box:3", *names, "-o", "soft/{stem}.jpg", "--jobs", "2", "-q")
    for name in (names[0], names[12]):
        imgconv("apply", "-k", "box:3", name, "-o", "alone.jpg", "--overwrite")
        alone = (folder / "alone.jpg").read_bytes()
        assert alone == (folder / "soft" / name).read_bytes()
        imgconv("apply", "-k", "box:3", name, "--in-place")
        assert alone == (folder / name).read_bytes()


@pytest.mark.parametrize("form", ["gif", "webp", "png"])
def test_an_animation_says_what_it_said_once(folder, form):
    frames = [Image.fromarray(np.roll(camera.photo(), 9 * n, axis=1)) for n in range(3)]
    exif = Image.Exif()
    exif.load(camera.exif())
    del exif[0x0112]
    told = {"comment": camera.COMMENT} if form == "gif" else {"exif": exif.tobytes()}
    frames[0].save(f"a.{form}", save_all=True, append_images=frames[1:], duration=200, **told)
    imgconv("apply", "-k", "box:3", f"a.{form}", "--frame", "all", "-o", f"b.{form}")
    found = opened(f"b.{form}")
    assert found.n_frames == 3
    if form == "gif":
        assert found.info["comment"] == camera.COMMENT.encode()
    else:
        assert exif_of(f"b.{form}")[0][0x8298] == "(c) Anna Beispiel"
        assert (folder / f"b.{form}").read_bytes().count(b"(c) Anna Beispiel") == 1
    assert json.loads(read_note(f"b.{form}"))["input"]["name"] == f"a.{form}"


def test_a_contact_sheet_keeps_who_made_the_photo_and_no_resolution(folder):
    imgconv("apply", "-k", "sobel-x", "-k", "sobel-y", "photo.jpg", "--sheet", "-o", "sheet.jpg")
    main, photo, _ = exif_of("sheet.jpg")
    assert main[0x8298] == "(c) Anna Beispiel"
    assert 0x011A not in main
    assert opened("sheet.jpg").info["jfif_unit"] == 0
    assert (photo[0xA002], photo[0xA003]) == opened("sheet.jpg").size


def test_xmp_beyond_a_jpegs_segment_goes_into_its_extension(folder):
    history = b"<h:log xmlns:h='http://example.org/h/'>" + b"a step and " * 15000 + b"</h:log>"
    packet = camera.XMP.replace(b"<dc:title>", history + b"<dc:title>")
    with_chunks("a.png", [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)])
    imgconv("apply", "-k", "box:3", "a.png", "-o", "b.jpg")
    content = (folder / "b.jpg").read_bytes()
    mark, parts, at = b"http://ns.adobe.com/xmp/extension/\0", [], 0
    while (at := content.find(mark, at)) >= 0:
        size = int.from_bytes(content[at - 2 : at], "big") - 2
        parts.append(content[at + len(mark) : at + size])
        at += size
    whole = b"".join(part[40:] for part in parts)
    assert [struct.unpack(">II", part[32:40])[0] for part in parts] == [len(whole)] * 3
    name = hashlib.md5(whole, usedforsecurity=False).hexdigest().upper()
    assert {part[:32].decode() for part in parts} == {name}
    assert f"HasExtendedXMP='{name}'" in xmp_of("b.jpg")
    assert history in whole
    assert b"<?xpacket" not in whole
    # From JPEG to JPEG it stays as it is.
    imgconv("apply", "-k", "box:3", "b.jpg", "-o", "c.jpg")
    again = (folder / "c.jpg").read_bytes()
    assert all(mark + part in again for part in parts)
    imgconv("apply", "-k", "box:3", "b.jpg", "-o", "c.png")
    assert "HasExtendedXMP" not in xmp_of("c.png")


def test_cameras_own_segments_stay_in_jpeg(folder):
    content = camera.jpeg()
    own = [(0xEC, b"[picture info]\r\nResolution=1\r\n"), (0xE3, b"Meta\0\0II*\0\x08\0\0\0")]
    gone = [(0xEC, b"Ducky\0\1\0\4\0\0\0d\0\0"), (0xE2, b"MPF\0II*\0\x08\0\0\0")]
    parts = b"".join(camera.segment(*one) for one in own + gone)
    (folder / "a.jpg").write_bytes(content[:20] + parts + content[20:])
    imgconv("apply", "-k", "box:3", "a.jpg", "-o", "b.jpg")
    content = (folder / "b.jpg").read_bytes()
    assert all(camera.segment(*one) in content for one in own)
    assert not any(payload in content for _, payload in gone)


def test_what_real_cameras_write_strangely_is_kept(folder):
    """Two numbers for a width, a text of no bytes, a thumbnail as samples, a note's zeros behind
    it: as Kodak's and Nikon's do."""
    block = bytearray(camera.exif("<"))
    at = block.index(struct.pack("<HHI", 0xA002, 3, 1))
    block[at + 4 : at + 12] = struct.pack("<IHH", 2, 96, 0)
    at = block.index(struct.pack("<HHI", 0x010E, 2, 7))
    block[at + 4 : at + 8] = bytes(4)
    strips = {0x0111: camera.shorts(len(block) + 80), 0x0117: camera.shorts(12)}
    block += bytes(20)
    small = camera.directory("<", len(block), strips)
    main = struct.unpack_from("<H", block, 8)[0]
    block[10 + 12 * main : 14 + 12 * main] = struct.pack("<I", len(block))
    (at,) = struct.unpack_from("<H", small, 10)
    block += small
    block += bytes(at - len(block)) + b"OLD PICTURE!"
    with_chunks("a.png", [(b"eXIf", bytes(block))])
    imgconv("apply", "-k", "box:3", "a.png", "--stride", "2", "-o", "b.png")
    found = dict(chunks_of("b.png"))[b"eXIf"]
    assert struct.pack("<HHIHH", 0xA002, 3, 2, 32, 0) in found
    assert struct.pack("<HHI", 0x010E, 2, 0) in found
    assert b"PICTURE" not in found
    assert found.endswith(bytes(20))


def test_a_maker_note_that_a_jpeg_cannot_hold_is_left_out_of_it(folder):
    block = bytearray(camera.exif("<"))
    at = block.index(struct.pack("<HH", 0x927C, 7))
    block[at + 4 : at + 12] = struct.pack("<II", 90_000, len(block))
    with_chunks("a.png", [(b"eXIf", bytes(block) + b"note " * 18_000)])
    imgconv("apply", "-k", "box:3", "a.png", "-o", "b.png")
    assert len(exif_of("b.png")[1][0x927C]) == 90_000
    imgconv("apply", "-k", "box:3", "a.png", "-o", "b.jpg")
    assert exif_of("b.jpg")[0][0x8298] == "(c) Anna Beispiel"
    assert 0x927C not in exif_of("b.jpg")[1]


def looped(where):
    """EXIF blocks whose directories lead to each other, or out of the block."""
    block = bytearray(camera.exif())
    if where == "itself":
        at = block.index(struct.pack(">HHI", 0x8769, 4, 1))
        block[at + 8 : at + 12] = struct.pack(">I", 8)
    elif where == "beyond":
        block[4:8] = struct.pack(">I", 1 << 30)
    else:
        block[8:10] = b"\xff\xff"
    return bytes(block)


@pytest.mark.parametrize("where", ["itself", "beyond", "count"])
@pytest.mark.parametrize("form", FORMATS)
def test_broken_exif_is_left_out_with_one_note(folder, where, form):
    exif = b"Exif\0\0" + looped(where)
    Image.fromarray(camera.photo()).save(f"a.{form}", exif=exif)
    done = here("apply", "-k", "sobel-x", "-k", "sobel-y", f"a.{form}", "-o", "b/{kernel}.png")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"a.{form}: metadata left out: " in done.stderr
    assert "exif" not in opened("b/sobel-x.png").info
    done = here("apply", "-k", "box:3", f"a.{form}", "-o", "c.png", "--no-metadata")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_wrong_with_an_animation_is_said_once(folder):
    frames = [Image.fromarray(np.roll(camera.photo(), 9 * n, axis=1)) for n in range(3)]
    frames[0].save("a.webp", save_all=True, append_images=frames[1:], xmp=BOMB)
    done = here("apply", "-k", "box:3", "a.webp", "--frame", "all", "-o", "b.webp")
    assert (done.returncode, done.stderr.count("metadata left out")) == (0, 1), done.stderr


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12))
    + b"]><x:xmpmeta xmlns:x='adobe:ns:meta/'>&a11;</x:xmpmeta>"
)


DECLARED = b"<!DOCTYPE x [<!ENTITY a 'b'>]><x:xmpmeta xmlns:x='adobe:ns:meta/'>&a;</x:xmpmeta>"


@pytest.mark.parametrize("packet", [BOMB, DECLARED, b"<x><y></x>", camera.XMP[:300], b"\xff\xfe<"])
def test_xmp_that_is_broken_or_a_bomb_is_left_out(folder, packet):
    Image.fromarray(camera.photo()).save("a.webp", xmp=packet, exif=b"Exif\0\0" + camera.exif())
    began = time.monotonic()
    done = here("apply", "-k", "box:3", "a.webp", "-o", "b.png")
    assert time.monotonic() - began < 5
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "a.webp: metadata left out: XMP" in done.stderr
    assert exif_of("b.png")[0][0x8298] == "(c) Anna Beispiel"
    assert xmp_of("b.png") is None


@pytest.mark.parametrize("kind", ["many", "bombs"])
@pytest.mark.parametrize("animated", [False, True])
def test_thousands_of_texts_and_bombs_among_them_are_left_out(folder, kind, animated):
    if kind == "many":
        texts = [(b"tEXt", b"key%d\0value" % number) for number in range(20_000)]
    else:
        bomb = zlib.compress(bytes(50_000_000))
        texts = [(b"zTXt", b"key%d\0\0" % number + bomb) for number in range(120)]
    if animated:
        texts.append((b"acTL", struct.pack(">II", 1, 0)))
    with_chunks("a.png", [*texts, (b"eXIf", camera.exif())])
    began = time.monotonic()
    done = here("apply", "-k", "box:3", "a.png", "-o", "b.png")
    assert time.monotonic() - began < 5
    assert (done.returncode, done.stderr.count("metadata left out")) == (0, 1), done.stderr
    assert not any(payload.startswith(b"key") for _, payload in chunks_of("b.png"))
    assert exif_of("b.png")[0][0x8298] == "(c) Anna Beispiel"


@pytest.mark.parametrize("keyword", ["Comment", "Copyright", "Raw profile type exif{}"])
def test_bombs_in_texts_that_other_formats_hold_take_little(folder, keyword):
    bomb = zlib.compress(bytes(4_000_000))
    texts = [(b"zTXt", keyword.format(n).encode() + b"\0\0" + bomb) for n in range(900)]
    with_chunks("a.png", texts, camera.photo(8, 8))
    for name in ("b.jpg", "b.tif", "b.gif", "b.png"):
        began = time.monotonic()
        done = here("apply", "-k", "box:3", "a.png", "-o", name)
        assert (done.returncode, time.monotonic() - began < 4) == (0, True), done.stderr
        assert name == "b.png" or (folder / name).stat().st_size < 1 << 20


def test_any_change_of_a_byte_leaves_an_image_that_is_filtered(folder):
    block = camera.exif("<", camera.thumbnail(camera.photo()))
    draw = np.random.default_rng(7)
    for _ in range(120):
        broken = bytearray(block)
        for at in draw.integers(0, len(block), 3):
            broken[at] = draw.integers(256)
        with_chunks("a.png", [(b"eXIf", bytes(broken))], camera.photo(8, 8))
        done = here("apply", "-k", "box:3", "a.png", "-o", "b.webp", "--overwrite")
        assert done.returncode == 0, done.stderr
        assert opened("b.webp").size in ((8, 8), (8, 8)[::-1])


def tags_by_exiftool(path, own=True):
    """Group:Tag → value; own: without measures of the file itself."""
    words = ["exiftool", "-j", "-n", "-a", "-G1:0", "-x", "System:all", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    [found] = json.loads(done.stdout)
    if not own:
        return found
    own = ("File:", "ExifTool:", "Composite:", "SourceFile", "PNG:", "RIFF:", "Imgconv", "GIF:")
    return {key.replace(":", ".", key.count(":") - 1): value for key, value in found.items()
            if not any(word in key for word in own)}  # fmt: skip


@exiftool
@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_tags_are_those_of_the_input_by_exiftool(folder, form):
    before = tags_by_exiftool("photo.jpg")
    if form == "jpg":
        imgconv("apply", "-k", "identity", "photo.jpg", "-o", "soft.jpg")
    else:
        imgconv("apply", "-k", "identity", "photo.jpg", "-o", f"soft.{form}")
    after = tags_by_exiftool(f"soft.{form}")
    short = {key.split(":")[-1]: (key, value) for key, value in before.items()}
    assert len(before) > 40
    lost = {key for key in before if key not in after}
    changed = {key for key in before if key in after and after[key] != before[key]}
    assert {key.split(":")[-1] for key in changed} == {
        "Orientation", "ExifImageWidth", "ExifImageHeight"
    }  # fmt: skip
    words = {key.split(":")[-1] for key in lost if "JFIF" not in key and "IPTC" not in key}
    assert words <= {
        "SubjectArea", "Thumbnails", "PhotoshopThumbnail", "ThumbnailOffset", "ThumbnailLength",
        "ThumbnailImage", "Compression",
    }  # fmt: skip
    assert short["OwnerName"][1] == after[short["OwnerName"][0]] == "Anna B."
    if form != "webp":
        assert not [key for key in lost if "IPTC" in key]
